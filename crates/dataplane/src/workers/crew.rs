//! Threads that help a worker who has more to seal or to open than one core can do: one flow, or one peer, that is all there is.
//!
//! A worker puts whole batches into its row ([`Tickets`]) and sends for help. Whoever is free does one batch of that row; the row sees to it
//! that batches come out in the order in which they went in. On few cores there is no crew, and workers do everything themselves.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tickets::{Tickets, Work};

/// A worker's row of batches.
pub(crate) trait Row: Send + Sync {
    /// Does a batch, if one waits.
    fn help(&self);
}

/// The threads. Dropping it ends them.
pub(crate) struct Crew {
    errands: Arc<Errands>,
    threads: Vec<JoinHandle<()>>,
    size: usize,
}

#[derive(Default)]
struct Errands {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<dyn Row>>,
    is_closed: bool,
}

impl Crew {
    /// Starts threads; none for a size of 0.
    pub(crate) fn start(size: usize) -> io::Result<Option<Arc<Self>>> {
        if size == 0 {
            return Ok(None);
        }
        let mut crew = Self {
            errands: Arc::default(),
            threads: Vec::new(),
            size,
        };
        for _ in 0..size {
            let errands = Arc::clone(&crew.errands);
            let thread = std::thread::Builder::new()
                .name("crypto worker".to_owned())
                .spawn(move || errands.run())?;
            crew.threads.push(thread);
        }
        Ok(Some(Arc::new(crew)))
    }

    /// Batches of one row that may be under way at once.
    pub(crate) fn row_len(&self) -> usize {
        2 * self.size + 2
    }

    /// Sends somebody to a row in which a batch waits.
    pub(crate) fn send(&self, row: Arc<dyn Row>) {
        self.errands.lock().waiting.push_back(row);
        self.errands.filled.notify_one();
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.errands.lock().is_closed = true;
        self.errands.filled.notify_all();
        for thread in self.threads.drain(..) {
            // One that panicked has ended too.
            let _ = thread.join();
        }
    }
}

impl Errands {
    fn run(&self) {
        while let Some(row) = self.next() {
            row.help();
        }
    }

    fn next(&self) -> Option<Arc<dyn Row>> {
        let mut state = self.lock();
        loop {
            if let Some(row) = state.waiting.pop_front() {
                return Some(row);
            }
            if state.is_closed {
                return None;
            }
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Batches that are done, whose memory serves the next ones.
#[derive(Debug)]
pub(crate) struct Spare<T>(Mutex<Vec<T>>);

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Spare<T> {
    pub(crate) fn take(&self) -> Option<T> {
        self.lock().pop()
    }

    pub(crate) fn give(&self, batch: T) {
        self.lock().push(batch);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A row, as its worker has it.
pub(crate) struct Hands<R> {
    crew: Arc<Crew>,
    row: Arc<R>,
}

impl<R> Hands<R> {
    pub(crate) fn new(crew: &Arc<Crew>, row: R) -> Self {
        Self {
            crew: Arc::clone(crew),
            row: Arc::new(row),
        }
    }

    pub(crate) fn row(&self) -> &R {
        &self.row
    }

    /// Whether a batch goes into the row: one that is worth it, or one that must not overtake others.
    pub(crate) fn wants<T>(&self, is_large: bool, tickets: impl Fn(&R) -> &Tickets<T>) -> bool {
        is_large || !tickets(&self.row).is_empty()
    }
}

impl<R: Row + 'static> Hands<R> {
    /// Puts a batch into the row, and sends for help.
    pub(crate) fn push<T>(&self, batch: T, tickets: impl Fn(&R) -> &Tickets<T>)
    where
        R: Work<T>,
    {
        tickets(&self.row).push(batch, &*self.row);
        self.crew.send(self.row.clone());
    }
}
