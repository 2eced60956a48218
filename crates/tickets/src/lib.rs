//! Jobs that many threads do and that end in the order in which they began.
//!
//! One thread draws tickets: it puts jobs in. Workers take them in that order and do them, each in its own time. A job that is done is
//! *retired* once all before it are, by whichever worker completes the row: there is no thread that only waits for the others, and
//! nothing is retired twice, out of order, or by two threads at once.
//!
//! Jobs are meant to be large, a whole batch of packets: each costs two short locks.

mod sync;

use std::collections::VecDeque;

use sync::{AtomicUsize, Condvar, Mutex, MutexGuard, Ordering};

/// The row of jobs.
pub struct Tickets<T> {
    state: Mutex<State<T>>,
    /// A job waits to be done, or no more will come.
    filled: Condvar,
    /// There is room, or something was done that the drawer waits for.
    moved: Condvar,
    /// How often somebody had something to retire since nobody was retiring.
    calls: AtomicUsize,
    capacity: usize,
}

struct State<T> {
    /// What became of each ticket from `first` on.
    row: VecDeque<Slot<T>>,
    /// The oldest ticket that is not retired.
    first: usize,
    /// The next ticket to be done.
    next: usize,
    is_closed: bool,
}

enum Slot<T> {
    Waits(T),
    /// A worker has it.
    Taken,
    Done(T),
    /// Its worker died over it.
    Lost,
}

/// What is done with jobs, and what with those that are done.
pub trait Work<T> {
    /// Done by many threads at once, in any order.
    fn work(&self, job: &mut T);
    /// Done by one thread at a time, in the order of the tickets.
    fn retire(&self, job: T);
}

impl<T> std::fmt::Debug for Tickets<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl<T> Tickets<T> {
    /// A row for at most `capacity` jobs that are not retired.
    pub fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::new(State {
                row: VecDeque::with_capacity(capacity.max(1)),
                first: 0,
                next: 0,
                is_closed: false,
            }),
            filled: Condvar::new(),
            moved: Condvar::new(),
            calls: AtomicUsize::new(0),
            capacity: capacity.max(1),
        }
    }

    /// Puts a job in. Where there is no room, the caller does jobs itself meanwhile. Only one thread may draw tickets.
    pub fn push(&self, job: T, work: &impl Work<T>) {
        let mut state = self.lock();
        while state.row.len() >= self.capacity {
            state = match state.take() {
                Some((ticket, job)) => {
                    drop(state);
                    self.finish(ticket, job, work);
                    self.lock()
                }
                None => wait(&self.moved, state),
            };
        }
        state.row.push_back(Slot::Waits(job));
        drop(state);
        self.filled.notify_one();
    }

    /// Does jobs until [`close`](Self::close) and no job waits.
    pub fn run(&self, work: &impl Work<T>) {
        loop {
            let mut state = self.lock();
            let (ticket, job) = loop {
                if let Some(taken) = state.take() {
                    break taken;
                }
                if state.is_closed {
                    return;
                }
                state = wait(&self.filled, state);
            };
            drop(state);
            self.finish(ticket, job, work);
        }
    }

    /// Does one job, if one waits.
    pub fn help(&self, work: &impl Work<T>) -> bool {
        let taken = self.lock().take();
        match taken {
            Some((ticket, job)) => {
                self.finish(ticket, job, work);
                true
            }
            None => false,
        }
    }

    /// Waits until everything that was put in is retired, and does what is still to be done. For the thread that draws tickets.
    pub fn drain(&self, work: &impl Work<T>) {
        let mut state = self.lock();
        while !state.row.is_empty() {
            state = match state.take() {
                Some((ticket, job)) => {
                    drop(state);
                    self.finish(ticket, job, work);
                    self.lock()
                }
                None => wait(&self.moved, state),
            };
        }
    }

    /// Whether everything that was put in is retired.
    pub fn is_empty(&self) -> bool {
        self.lock().row.is_empty()
    }

    /// No more jobs will come: workers end once none waits.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.filled.notify_all();
    }

    fn finish(&self, ticket: usize, mut job: T, work: &impl Work<T>) {
        let mut lost = OnPanic {
            tickets: self,
            ticket,
            work,
            is_armed: true,
        };
        work.work(&mut job);
        lost.is_armed = false;
        drop(lost);
        self.lock().put(ticket, Slot::Done(job));
        self.retire(work);
    }

    /// Retires what is done at the front of the row, unless somebody is at it: who will then look once more.
    fn retire(&self, work: &impl Work<T>) {
        if self.calls.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let mut heard = 1;
        loop {
            loop {
                let done = self.lock().retirable();
                match done {
                    Some(Some(job)) => {
                        work.retire(job);
                        self.lock().retired();
                    }
                    Some(None) => self.lock().retired(),
                    None => break,
                }
                self.moved.notify_one();
            }
            let before = self.calls.fetch_sub(heard, Ordering::AcqRel);
            heard = before - heard;
            if heard == 0 {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        sync::lock(&self.state)
    }
}

fn wait<'a, T>(condition: &Condvar, state: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    sync::wait(condition, state)
}

/// A job whose worker panicked is not waited for.
struct OnPanic<'a, T, W: Work<T>> {
    tickets: &'a Tickets<T>,
    ticket: usize,
    work: &'a W,
    is_armed: bool,
}

impl<T, W: Work<T>> Drop for OnPanic<'_, T, W> {
    fn drop(&mut self) {
        if self.is_armed {
            self.tickets.lock().put(self.ticket, Slot::Lost);
            // Others may be done with what came after it.
            self.tickets.retire(self.work);
        }
    }
}

impl<T> State<T> {
    /// The next job that nobody has.
    fn take(&mut self) -> Option<(usize, T)> {
        let ticket = self.next;
        let slot = self.row.get_mut(ticket - self.first)?;
        match std::mem::replace(slot, Slot::Taken) {
            Slot::Waits(job) => {
                self.next += 1;
                Some((ticket, job))
            }
            other => {
                *slot = other;
                None
            }
        }
    }

    fn put(&mut self, ticket: usize, slot: Slot<T>) {
        if let Some(place) = self.row.get_mut(ticket - self.first) {
            *place = slot;
        }
    }

    /// What is to be retired now: the front's job, or `Some(None)` for one that was lost.
    fn retirable(&mut self) -> Option<Option<T>> {
        let front = self.row.front_mut()?;
        match std::mem::replace(front, Slot::Taken) {
            Slot::Done(job) => Some(Some(job)),
            Slot::Lost => Some(None),
            other => {
                *front = other;
                None
            }
        }
    }

    /// The front is retired, and its room is free.
    fn retired(&mut self) {
        self.row.pop_front();
        self.first += 1;
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
