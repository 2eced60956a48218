//! How the HTTP/2 library runs its own tasks.

/// Runs what the HTTP/2 library wants run.
#[derive(Debug, Clone, Copy)]
pub struct Executor;

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        rt::Task::spawn("http2 stream", future).detach();
    }
}
