//! The notification bus (`watch-ipn-bus`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backend::{Event, Recipient};
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

/// Hands messages to their subscribers. Clones are handles to the same bus.
#[derive(Clone, Default)]
pub(crate) struct Bus {
    subscribers: Arc<Mutex<Vec<Subscriber>>>,
}

struct Subscriber {
    /// The process that it lives in, if the system says.
    pid: Option<i32>,
    messages: mpsc::Sender<Arc<Notify>>,
}

impl Bus {
    fn subscribers(&self) -> MutexGuard<'_, Vec<Subscriber>> {
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is published from here on, for everybody or for this process. The channel closes when the
    /// subscriber falls behind.
    pub(crate) fn subscribe(&self, pid: Option<i32>) -> mpsc::Receiver<Arc<Notify>> {
        let (messages, receiver) = mpsc::channel(QUEUE);
        self.subscribers().push(Subscriber { pid, messages });
        receiver
    }

    pub(crate) fn publish(&self, mut message: Notify, recipient: Recipient) {
        message.version = ipn::version::LONG.into();
        let message = Arc::new(message);
        self.subscribers().retain(|subscriber| match recipient {
            Recipient::Process(pid) if subscriber.pid != Some(pid) => true,
            _ => subscriber.messages.try_send(Arc::clone(&message)).is_ok(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_falls_behind_is_cut_off_and_others_are_not() {
        let bus = Bus::default();
        let mut slow = bus.subscribe(None);
        for _ in 0..=QUEUE {
            bus.publish(Notify::default(), Recipient::Everybody);
        }
        let mut fresh = bus.subscribe(None);
        bus.publish(Notify::default(), Recipient::Everybody);
        assert!(fresh.try_recv().is_ok());
        let mut seen = 0;
        while slow.recv().await.is_some() {
            seen += 1;
        }
        assert_eq!(seen, QUEUE);
    }

    #[tokio::test]
    async fn what_is_for_one_process_reaches_no_other() {
        let bus = Bus::default();
        let mut all = [Some(1), Some(1), Some(2), None].map(|pid| bus.subscribe(pid));
        bus.publish(Notify::default(), Recipient::Process(1));
        let got = all
            .each_mut()
            .map(|subscriber| subscriber.try_recv().is_ok());
        assert_eq!(got, [true, true, false, false]);
        bus.publish(Notify::default(), Recipient::Everybody);
        assert!(
            all.iter_mut()
                .all(|subscriber| subscriber.try_recv().is_ok())
        );
    }
}
