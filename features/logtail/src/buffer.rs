//! Entries that wait.

use std::collections::VecDeque;

/// A queue of entries, bounded in bytes; the oldest give way.
#[derive(Debug)]
pub(crate) struct Buffer {
    entries: VecDeque<String>,
    bytes: usize,
    max: usize,
    lost: u64,
}

impl Buffer {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            max,
            lost: 0,
        }
    }

    pub(crate) fn push(&mut self, entry: String) {
        self.bytes += entry.len();
        self.entries.push_back(entry);
        while self.bytes > self.max {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= oldest.len();
            self.lost += 1;
        }
    }

    /// Everything, as one JSON array.
    pub(crate) fn take(&mut self) -> Option<String> {
        if self.entries.is_empty() && self.lost == 0 {
            return None;
        }
        let mut body = String::with_capacity(self.bytes + self.entries.len() + 80);
        body.push('[');
        if self.lost > 0 {
            body.push_str(&format!(
                "{{\"text\":\"[logtail: {} entries lost]\\n\"}}",
                self.lost
            ));
        }
        for entry in self.entries.drain(..) {
            if body.len() > 1 {
                body.push(',');
            }
            body.push_str(&entry);
        }
        body.push(']');
        self.bytes = 0;
        self.lost = 0;
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_give_way_and_are_counted() {
        let mut buffer = Buffer::new(20);
        assert_eq!(buffer.take(), None);
        for entry in ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"] {
            buffer.push(entry.into());
        }
        assert_eq!(
            buffer.take().unwrap(),
            "[{\"text\":\"[logtail: 1 entries lost]\\n\"},{\"b\":2},{\"c\":3}]"
        );
        assert_eq!(buffer.take(), None);
    }
}
