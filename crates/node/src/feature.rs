//! How optional features join a node: each is a value that registers what it brings; the daemon's `features.rs` is the
//! only place that names them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use metrics::UserMetrics;

use crate::{Dial, LogTap};

/// An optional part of a node.
pub trait Feature: Send {
    /// Its name, for logs.
    fn name(&self) -> &'static str;

    /// Says what it brings. An error stops the daemon: it was asked for and cannot be had.
    fn register(self: Box<Self>, registry: &mut Registry) -> Result<(), String>;
}

/// The node's status, for whoever shows it.
pub trait StatusSource: Send + Sync {
    /// The status as `tailscale status --json` prints it.
    fn status_json(&self) -> host::BoxFuture<'_, String>;
}

/// What a feature's task gets of the node.
#[derive(Clone)]
pub struct FeatureHost {
    /// Opens connections as a user of this node would.
    pub dial: Arc<dyn Dial>,
    /// The node's status.
    pub status: Arc<dyn StatusSource>,
    /// What the node counts.
    pub metrics: Arc<UserMetrics>,
    /// What the node logs.
    pub log: LogTap,
}

type TaskFn = Box<dyn FnOnce(FeatureHost) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What the features of one node brought.
#[derive(Default)]
pub struct Registry {
    tasks: Vec<(&'static str, TaskFn)>,
}

impl Registry {
    /// A task that runs as long as the node.
    pub fn task<F>(
        &mut self,
        name: &'static str,
        task: impl FnOnce(FeatureHost) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks
            .push((name, Box::new(move |host| Box::pin(task(host)))));
    }

    /// Starts all tasks; they end when the returned values are dropped.
    pub fn start(self, host: &FeatureHost) -> Vec<rt::Task> {
        self.tasks
            .into_iter()
            .map(|(name, task)| rt::Task::spawn(name, task(host.clone())))
            .collect()
    }
}
