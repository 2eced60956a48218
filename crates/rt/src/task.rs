//! Tasks with a name that end with their owner.

use std::future::Future;

use tokio::task::JoinHandle;

/// A background task: named, aborted when dropped, and its error is logged once, here.
#[derive(Debug)]
pub struct Task {
    name: &'static str,
    handle: JoinHandle<()>,
}

impl Task {
    /// Runs `future` until it ends or the returned value is dropped.
    #[must_use = "the task is aborted when this is dropped"]
    pub fn spawn(name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one spawn")]
        let handle = tokio::spawn(future);
        Self { name, handle }
    }

    /// Like [`spawn`](Self::spawn), for work that can fail; the failure is logged.
    #[must_use = "the task is aborted when this is dropped"]
    pub fn spawn_fallible<E: std::fmt::Display>(
        name: &'static str,
        future: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> Self {
        Self::spawn(name, async move {
            if let Err(error) = future.await {
                tracing::warn!("{name}: {error}");
            }
        })
    }

    /// Lets the task run on without an owner; it ends by itself or with the process.
    pub fn detach(self) {
        std::mem::forget(self);
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Waits until the task ends.
    pub async fn join(mut self) {
        if let Err(error) = (&mut self.handle).await
            && error.is_panic()
        {
            tracing::error!("{}: panicked", self.name);
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
