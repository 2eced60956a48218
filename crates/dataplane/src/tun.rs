//! The TUN device: a worker ([`Transmitter`]) takes what the host sends; what the engine has for the host, its thread writes.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use host::{Avoid, Csum, Gso, Tun, TunQueue, TunTx};

use crate::workers::Transmitter;

/// Bytes for the device that are written at once.
const OUT_LEN: usize = 64 << 10;

/// Packets from the host that are for the engine.
#[derive(Debug, Default)]
pub(crate) struct FromHost {
    bytes: Vec<u8>,
    packets: Vec<Range<usize>>,
}

impl FromHost {
    pub(crate) fn push(&mut self, packet: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(packet);
        self.packets.push(start..self.bytes.len());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Bytes of all.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn packets(&self) -> impl Iterator<Item = &[u8]> {
        let range = |range: &Range<usize>| self.bytes.get(range.clone());
        self.packets.iter().filter_map(range)
    }

    #[cfg(test)]
    pub(crate) fn of(packet: &[u8]) -> Self {
        let mut packets = Self::default();
        packets.push(packet);
        packets
    }
}

/// Packets for the host, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct ToHost {
    bytes: Vec<u8>,
    packets: Vec<Range<usize>>,
}

impl ToHost {
    pub(crate) fn push(&mut self, packet: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(packet);
        self.packets.push(start..self.bytes.len());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether it is time to write.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= OUT_LEN
    }

    pub(crate) fn packets(&self) -> impl Iterator<Item = &[u8]> {
        let range = |range: &Range<usize>| self.bytes.get(range.clone());
        self.packets.iter().filter_map(range)
    }
}

/// A device in use: each of its queues has a worker. Dropping it ends them; the device goes when its maker lets go of it too.
pub(crate) struct Device {
    queues: Vec<Arc<dyn TunQueue>>,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    _tun: Box<dyn Tun>,
}

impl Device {
    /// Starts the workers.
    pub(crate) fn start(
        mut tun: Box<dyn Tun>,
        make: &dyn Fn(usize) -> Transmitter,
    ) -> io::Result<Self> {
        let queues = tun.queues();
        if queues.is_empty() {
            return Err(io::Error::other("the TUN device has no queue"));
        }
        let mut device = Self {
            queues: queues.clone(),
            stop: Arc::new(AtomicBool::new(false)),
            workers: Vec::new(),
            _tun: tun,
        };
        for (number, queue) in queues.into_iter().enumerate() {
            let (mut transmitter, stopped) = (make(number), Arc::clone(&device.stop));
            let worker = std::thread::Builder::new()
                .name("tun worker".to_owned())
                .spawn(move || transmitter.run(&*queue, &stopped))?;
            device.workers.push(worker);
        }
        Ok(device)
    }

    /// Its queues.
    pub(crate) fn queues(&self) -> Vec<Arc<dyn TunQueue>> {
        self.queues.clone()
    }

    pub(crate) fn avoid(&self, avoid: Avoid) {
        for queue in &self.queues {
            queue.avoid(avoid);
        }
    }

    /// Gives the host its packets; says how many were lost.
    pub(crate) fn write(&self, packets: &ToHost) -> u64 {
        let slices: Vec<[IoSlice<'_>; 1]> = packets
            .packets()
            .map(|packet| [IoSlice::new(packet)])
            .collect();
        let batch: Vec<TunTx<'_>> = slices
            .iter()
            .map(|iov| TunTx {
                gso: Gso::default(),
                csum: Csum::Full,
                iov,
            })
            .collect();
        let Some(queue) = self.queues.first() else {
            return batch.len() as u64;
        };
        let lost = queue.send(&batch).lost;
        u64::from(lost.too_big + lost.no_buffer + lost.unreachable + lost.other)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for queue in &self.queues {
            queue.waker().wake();
        }
        for worker in self.workers.drain(..) {
            // A worker that panicked has ended too.
            let _ = worker.join();
        }
    }
}
