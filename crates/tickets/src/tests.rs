use std::sync::atomic::AtomicU32;

use proptest::prelude::*;

use super::*;

/// Notes what is retired.
#[derive(Default)]
struct Notes {
    retired: Mutex<Vec<u32>>,
    inside: AtomicU32,
    panics_at: Option<u32>,
}

impl Work<u32> for Notes {
    fn work(&self, job: &mut u32) {
        // Some take longer.
        for _ in 0..*job % 7 * 50 {
            std::hint::spin_loop();
        }
        assert_ne!(Some(*job), self.panics_at, "as asked for");
    }

    fn retire(&self, job: u32) {
        assert_eq!(
            self.inside.fetch_add(1, Ordering::SeqCst),
            0,
            "one at a time"
        );
        self.retired.lock().expect("nobody panics").push(job);
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

fn run(workers: usize, capacity: usize, jobs: u32, notes: &Notes) -> Vec<u32> {
    let tickets = Tickets::new(capacity);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..workers)
            .map(|_| scope.spawn(|| tickets.run(notes)))
            .collect();
        for job in 0..jobs {
            tickets.push(job, notes);
        }
        tickets.drain(notes);
        assert!(tickets.is_empty());
        tickets.close();
        for worker in running {
            // One may have panicked, as asked for.
            let _ = worker.join();
        }
    });
    notes.retired.lock().expect("nobody panics").clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn jobs_end_in_the_order_in_which_they_began(
        workers in 0_usize..5,
        capacity in 0_usize..9,
        jobs in 0_u32..400,
    ) {
        let notes = Notes::default();
        let retired = run(workers, capacity, jobs, &notes);
        prop_assert_eq!(retired, (0..jobs).collect::<Vec<_>>());
    }
}

#[test]
fn a_worker_that_dies_takes_only_its_own_job_along() {
    // With one job in the row, it is a worker's before the next comes, or the drawer's, who would die of it.
    let notes = Notes {
        panics_at: Some(20),
        ..Notes::default()
    };
    let tickets = Tickets::new(64);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| tickets.run(&notes)))
            .collect();
        for job in 0..50 {
            tickets.push(job, &notes);
        }
        tickets.close();
        let dead = workers.into_iter().filter_map(|worker| worker.join().err());
        assert_eq!(dead.count(), 1);
    });
    let mut expected: Vec<u32> = (0..50).collect();
    expected.remove(20);
    assert_eq!(*notes.retired.lock().unwrap(), expected);
}
