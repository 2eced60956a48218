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

/// A device in use. Dropping it ends the worker; the device goes when its maker lets go of it too.
pub(crate) struct Device {
    queue: Arc<dyn TunQueue>,
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
    _tun: Box<dyn Tun>,
}

impl Device {
    /// Takes the queue on which packets go to and come from the host.
    pub(crate) fn queue_of(tun: &mut dyn Tun) -> io::Result<Arc<dyn TunQueue>> {
        let queue = tun.queues().into_iter().next();
        queue.ok_or_else(|| io::Error::other("the TUN device has no queue"))
    }

    /// Starts the worker.
    pub(crate) fn start(
        tun: Box<dyn Tun>,
        queue: Arc<dyn TunQueue>,
        mut transmitter: Transmitter,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (reading, stopped) = (Arc::clone(&queue), Arc::clone(&stop));
        let worker = std::thread::Builder::new()
            .name("tun worker".to_owned())
            .spawn(move || transmitter.run(&*reading, &stopped))?;
        Ok(Self {
            queue,
            stop,
            worker: Some(worker),
            _tun: tun,
        })
    }

    pub(crate) fn avoid(&self, avoid: Avoid) {
        self.queue.avoid(avoid);
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
        let lost = self.queue.send(&batch).lost;
        u64::from(lost.too_big + lost.no_buffer + lost.unreachable + lost.other)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.queue.waker().wake();
        if let Some(worker) = self.worker.take() {
            // A worker that panicked has ended too.
            let _ = worker.join();
        }
    }
}
