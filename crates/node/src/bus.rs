//! The notification bus (`watch-ipn-bus`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipn::Notify;
use tokio::sync::mpsc;

/// Messages that wait for one subscriber; one that falls further behind is cut off.
pub(crate) const QUEUE: usize = 128;

/// Hands every message to every subscriber. Clones are handles to the same bus.
#[derive(Clone, Default)]
pub(crate) struct Bus {
    subscribers: Arc<Mutex<Vec<mpsc::Sender<Arc<Notify>>>>>,
}

impl Bus {
    fn subscribers(&self) -> MutexGuard<'_, Vec<mpsc::Sender<Arc<Notify>>>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.subscribers().retain(|subscriber| subscriber.try_send(Arc::clone(&message)).is_ok());
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
