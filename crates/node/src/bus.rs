//! The notification bus (`watch-ipn-bus`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backend::Event;
use ipn::Notify;
use rt::Task;
use tokio::sync::mpsc;

use crate::brain::BrainHandle;

/// Messages that wait for one subscriber; one that falls further behind is cut off.
pub(crate) const QUEUE: usize = 128;

/// How many subscribers want to hear of single peers. Their messages are made only while there are any.
#[derive(Clone, Default)]
pub(crate) struct PeerWatchers(Arc<AtomicUsize>);

impl PeerWatchers {
    /// One more, as long as the returned value lives. The brain hears of the first and of the last.
    pub(crate) async fn join(&self, brain: &BrainHandle) -> PeerWatcher {
        if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
            brain.report(Event::PeerWatchers(true)).await;
        }
        PeerWatcher {
            watchers: self.clone(),
            brain: brain.clone(),
        }
    }
}

/// A subscriber that wants to hear of single peers.
pub(crate) struct PeerWatcher {
    watchers: PeerWatchers,
    brain: BrainHandle,
}

impl Drop for PeerWatcher {
    fn drop(&mut self) {
        if self.watchers.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            let (brain, watchers) = (self.brain.clone(), self.watchers.clone());
            let report = async move {
                // Somebody may have joined in between.
                let any = watchers.0.load(Ordering::Relaxed) > 0;
                brain.report(Event::PeerWatchers(any)).await;
            };
            Task::spawn("last peer watcher", report).detach();
        }
    }
}

/// Hands every message to every subscriber. Clones are handles to the same bus.
#[derive(Clone, Default)]
pub(crate) struct Bus {
    subscribers: Arc<Mutex<Vec<mpsc::Sender<Arc<Notify>>>>>,
}

impl Bus {
    fn subscribers(&self) -> MutexGuard<'_, Vec<mpsc::Sender<Arc<Notify>>>> {
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is published from here on. The channel closes when the subscriber falls behind.
    pub(crate) fn subscribe(&self) -> mpsc::Receiver<Arc<Notify>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.subscribers().push(sender);
        receiver
    }

    pub(crate) fn publish(&self, mut message: Notify) {
        message.version = ipn::version::LONG.into();
        let message = Arc::new(message);
        self.subscribers()
            .retain(|subscriber| subscriber.try_send(Arc::clone(&message)).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_falls_behind_is_cut_off_and_others_are_not() {
        let bus = Bus::default();
        let mut slow = bus.subscribe();
        for _ in 0..=QUEUE {
            bus.publish(Notify::default());
        }
        let mut fresh = bus.subscribe();
        bus.publish(Notify::default());
        assert!(fresh.try_recv().is_ok());
        let mut seen = 0;
        while slow.recv().await.is_some() {
            seen += 1;
        }
        assert_eq!(seen, QUEUE);
    }
}
