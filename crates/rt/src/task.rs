//! Tasks with a name that end with their owner.

use std::future::Future;

use tokio::task::JoinHandle;

/// A background task: named, aborted when dropped, and its error is logged once, here.
#[derive(Debug)]
pub struct Task {
    name: &'static str,
    /// Gone once the task is detached or joined.
    handle: Option<JoinHandle<()>>,
}

impl Task {
    /// Runs `future` until it ends or the returned value is dropped.
    #[must_use = "the task is aborted when this is dropped"]
    pub fn spawn(name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one spawn")]
        let handle = tokio::spawn(future);
        Self {
            name,
            handle: Some(handle),
        }
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
    pub fn detach(mut self) {
        // A dropped handle lets the task run on.
        self.handle = None;
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until the task ends.
    pub async fn join(mut self) {
        if let Some(handle) = &mut self.handle
            && let Err(error) = handle.await
            && error.is_panic()
        {
            tracing::error!("{}: panicked", self.name);
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_detached_task_runs_on_and_leaves_nothing_behind() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let kept = Arc::new(());
        let held = Arc::clone(&kept);
        Task::spawn("detached", async move {
            let _held = held;
            tokio::task::yield_now().await;
            let _ = sender.send(());
        })
        .detach();
        assert!(receiver.await.is_ok());
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&kept), 1);
    }

    #[tokio::test]
    async fn a_dropped_task_ends() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        drop(Task::spawn("dropped", async move {
            std::future::pending::<()>().await;
            drop(sender);
        }));
        assert!(receiver.await.is_err());
    }
}
