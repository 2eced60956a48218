//! Buffers between a reader thread and the engine: while the engine has all of them, nothing is read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use host::Batch;

/// Bytes, and what is where in them.
pub(crate) type Buffer<T> = (Vec<u8>, Batch<T>);

/// A fixed number of buffers.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    free: Mutex<Vec<Buffer<T>>>,
    given: Condvar,
    closed: AtomicBool,
}

impl<T> Pool<T> {
    pub(crate) fn new(buffers: usize, len: usize) -> Arc<Self> {
        let buffers = (0..buffers).map(|_| (vec![0; len], Batch::new()));
        Arc::new(Self {
            free: Mutex::new(buffers.collect()),
            given: Condvar::new(),
            closed: AtomicBool::new(false),
        })
    }

    /// Waits for a buffer; `None` once the pool is closed.
    pub(crate) fn take(&self) -> Option<Buffer<T>> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let is_closed = || self.closed.load(Ordering::Acquire);
        let mut free = self
            .given
            .wait_while(free, |free| free.is_empty() && !is_closed())
            .unwrap_or_else(PoisonError::into_inner);
        free.pop().filter(|_| !is_closed())
    }

    /// Gives a buffer back.
    pub(crate) fn give(&self, (bytes, mut batch): Buffer<T>) {
        batch.clear();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push((bytes, batch));
        self.given.notify_one();
    }

    pub(crate) fn close(&self) {
        // Under the lock, so that nobody goes to sleep between looking and this.
        let _free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::Release);
        self.given.notify_all();
    }
}
