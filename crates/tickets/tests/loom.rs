//! Every order in which three threads can move four tickets. `cargo xtask loom` runs it.
#![cfg(loom)]

use loom::sync::{Arc, Mutex};
use tickets::{Tickets, Work};

/// Notes what is retired, and that nobody else is at it.
struct Notes {
    retired: Mutex<Vec<u8>>,
    worked: Mutex<Vec<u8>>,
}

impl Work<u8> for Notes {
    fn work(&self, job: &mut u8) {
        self.worked.lock().unwrap().push(*job);
    }

    fn retire(&self, job: u8) {
        // A second one inside would find it locked.
        self.retired.try_lock().expect("one at a time").push(job);
    }
}

/// One thread draws `jobs` tickets, two work.
fn check(capacity: usize, jobs: u8) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let notes = Arc::new(Notes {
            retired: Mutex::new(Vec::new()),
            worked: Mutex::new(Vec::new()),
        });
        let tickets = Arc::new(Tickets::new(capacity));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (tickets, notes) = (tickets.clone(), notes.clone());
                loom::thread::spawn(move || tickets.run(&*notes))
            })
            .collect();
        for job in 0..jobs {
            tickets.push(job, &*notes);
        }
        tickets.drain(&*notes);
        assert!(tickets.is_empty());
        tickets.close();
        for worker in workers {
            worker.join().expect("no worker panics");
        }
        let all: Vec<u8> = (0..jobs).collect();
        assert_eq!(*notes.retired.lock().unwrap(), all);
        let mut worked = notes.worked.lock().unwrap().clone();
        worked.sort_unstable();
        assert_eq!(worked, all, "each once");
    });
}

#[test]
fn helpers_who_do_not_wait() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let notes = Arc::new(Notes {
            retired: Mutex::new(Vec::new()),
            worked: Mutex::new(Vec::new()),
        });
        let tickets = Arc::new(Tickets::new(4));
        let helpers: Vec<_> = (0..2)
            .map(|_| {
                let (tickets, notes) = (tickets.clone(), notes.clone());
                loom::thread::spawn(move || while tickets.help(&*notes) {})
            })
            .collect();
        for job in 0..3 {
            tickets.push(job, &*notes);
        }
        tickets.drain(&*notes);
        for helper in helpers {
            helper.join().expect("no helper panics");
        }
        assert_eq!(*notes.retired.lock().unwrap(), [0, 1, 2]);
    });
}

#[test]
fn four_tickets_with_room_for_all() {
    check(4, 4);
}

#[test]
fn four_tickets_with_room_for_two() {
    check(2, 4);
}
