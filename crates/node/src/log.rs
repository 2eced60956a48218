//! The log tap: what the daemon logs, for `tailscale debug daemon-logs` and for uploaders.
//!
//! An entry's JSON is that of the originals (`logtail`): `{"logtail":{"client_time","proc_id","proc_seq"},"v","text"}`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use host::Wall;
use rand_core::Rng as _;
use tokio::sync::broadcast;

/// Entries kept for a subscriber that is slow; older ones are lost to it.
const QUEUE: usize = 256;
/// Longer texts are cut.
const TEXT_MAX: usize = 16 << 10;

/// One line of the log.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// When it was logged.
    pub time: Wall,
    /// 0, or 1 and 2 for what `--verbose` shows.
    pub level: u8,
    /// The text without a line end.
    pub text: String,
    sequence: u64,
    process: u32,
}

impl LogEntry {
    /// The entry as the originals write it, without a line end.
    pub fn to_json(&self) -> String {
        let seconds = self.time.as_unix_secs();
        let nanos = self.time.as_unix_nanos().rem_euclid(1_000_000_000) as i32;
        let time = jiff::Timestamp::new(seconds, nanos).unwrap_or_default();
        let mut text = self.text.clone();
        if text.len() > TEXT_MAX {
            let cut = (0..=TEXT_MAX)
                .rev()
                .find(|at| text.is_char_boundary(*at))
                .unwrap_or(0);
            let lost = text.len() - cut;
            text.truncate(cut);
            text.push_str(&format!("…+{lost}"));
        }
        text.push('\n');
        let mut entry = serde_json::json!({
            "logtail": { "client_time": time.to_string(), "proc_id": self.process, "proc_seq": self.sequence },
            "text": text,
        });
        if self.level > 0 {
            entry["v"] = self.level.into();
        }
        entry.to_string()
    }
}

/// Where log lines are published. Clones are handles to the same one. Without subscribers an entry costs nothing.
#[derive(Debug, Clone)]
pub struct LogTap {
    sender: broadcast::Sender<Arc<LogEntry>>,
    sequence: Arc<AtomicU64>,
    process: u32,
}

impl Default for LogTap {
    fn default() -> Self {
        Self {
            sender: broadcast::Sender::new(QUEUE),
            sequence: Arc::default(),
            process: rt::OsRng.next_u32().max(1),
        }
    }
}

impl LogTap {
    /// Publishes one line.
    pub fn publish(&self, level: u8, text: impl FnOnce() -> String) {
        if self.sender.receiver_count() == 0 {
            return;
        }
        let entry = LogEntry {
            time: rt::wall(),
            level,
            text: text(),
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            process: self.process,
        };
        // Nobody listening any more is no error.
        let _ = self.sender.send(Arc::new(entry));
    }

    /// Starts to listen; what was logged before is not seen.
    pub fn subscribe(&self) -> LogSubscription {
        LogSubscription {
            receiver: self.sender.subscribe(),
        }
    }
}

/// One listener of a [`LogTap`].
#[derive(Debug)]
pub struct LogSubscription {
    receiver: broadcast::Receiver<Arc<LogEntry>>,
}

impl LogSubscription {
    /// The next entry; `None` when the daemon stops. A listener that is too slow loses the oldest.
    pub async fn next(&mut self) -> Option<Arc<LogEntry>> {
        loop {
            match self.receiver.recv().await {
                Ok(entry) => return Some(entry),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn entries_have_the_originals_shape() {
        let tap = LogTap::default();
        tap.publish(0, || unreachable!("nobody listens"));
        let mut listener = tap.subscribe();
        tap.publish(1, || "x".repeat(TEXT_MAX + 3));
        let entry: serde_json::Value =
            serde_json::from_str(&listener.next().await.unwrap().to_json()).unwrap();
        assert_eq!(entry["v"], 1);
        assert!(entry["logtail"]["proc_id"].as_u64().unwrap() > 0);
        assert_eq!(entry["logtail"]["proc_seq"], 1);
        assert!(entry["text"].as_str().unwrap().ends_with("…+3\n"));
        assert!(
            entry["logtail"]["client_time"]
                .as_str()
                .unwrap()
                .ends_with('Z')
        );
    }

    #[tokio::test]
    async fn a_slow_listener_loses_the_oldest() {
        let tap = LogTap::default();
        let mut listener = tap.subscribe();
        for line in 0..QUEUE + 10 {
            tap.publish(0, || line.to_string());
        }
        assert_eq!(listener.next().await.unwrap().text, "10");
    }
}
