//! The TUN device: a reader thread takes what the host sends, the engine's thread writes what comes for the host.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;

use host::{Batch, Csum, Gso, Tun, TunQueue, TunRx, TunTx, Until};

use crate::mailbox::Mailbox;
use crate::pool::Pool;

/// Bytes of one buffer: room for a packet of any length behind a good number of usual ones.
const BUFFER_LEN: usize = 256 << 10;
/// Buffers of one device.
const BUFFERS: usize = 4;
/// Bytes for the device that are written at once.
const OUT_LEN: usize = 64 << 10;

/// Packets from the host, of one read. Their buffer goes back when this is dropped.
#[derive(Debug)]
pub(crate) struct FromHost {
    bytes: Vec<u8>,
    packets: Batch<TunRx>,
    pool: Option<Arc<Pool<TunRx>>>,
}

impl FromHost {
    pub(crate) fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.packets.iter().filter_map(|packet| {
            let start = packet.off as usize;
            self.bytes.get(start..start + packet.len as usize)
        })
    }

    #[cfg(test)]
    pub(crate) fn of(packet: &[u8]) -> Self {
        let whole = TunRx {
            off: 0,
            len: packet.len() as u32,
            gso: Gso::default(),
            csum: Csum::Full,
        };
        Self {
            bytes: packet.to_vec(),
            packets: vec![whole],
            pool: None,
        }
    }
}

impl Drop for FromHost {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            let bytes = std::mem::take(&mut self.bytes);
            pool.give((bytes, std::mem::take(&mut self.packets)));
        }
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

/// A device in use. Dropping it ends the reader; the device goes when its maker lets go of it too.
pub(crate) struct Device {
    queue: Arc<dyn TunQueue>,
    pool: Arc<Pool<TunRx>>,
    reader: Option<JoinHandle<()>>,
    _tun: Box<dyn Tun>,
}

impl Device {
    pub(crate) fn start(mut tun: Box<dyn Tun>, mailbox: Arc<Mailbox>) -> io::Result<Self> {
        let queue = tun.queues().into_iter().next();
        let queue = queue.ok_or_else(|| io::Error::other("the TUN device has no queue"))?;
        let pool = Pool::new(BUFFERS, BUFFER_LEN);
        let (reading, buffers) = (queue.clone(), pool.clone());
        let reader = std::thread::Builder::new()
            .name("tun reader".to_owned())
            .spawn(move || read(&*reading, &buffers, &mailbox))?;
        Ok(Self {
            queue,
            pool,
            reader: Some(reader),
            _tun: tun,
        })
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
        self.pool.close();
        self.queue.waker().wake();
        if let Some(reader) = self.reader.take() {
            // A reader that panicked has ended too.
            let _ = reader.join();
        }
    }
}

fn read(queue: &dyn TunQueue, pool: &Arc<Pool<TunRx>>, mailbox: &Mailbox) {
    while let Some((bytes, packets)) = pool.take() {
        let mut from_host = FromHost {
            bytes,
            packets,
            pool: Some(pool.clone()),
        };
        let FromHost { bytes, packets, .. } = &mut from_host;
        match queue.recv(bytes, packets, Until::Woken) {
            Ok(()) if from_host.packets.is_empty() => {}
            Ok(()) => mailbox.post(|inbox| inbox.from_host.push_back(from_host)),
            Err(error) => {
                let error = error.to_string();
                return mailbox.post(|inbox| inbox.tun_lost = Some(error));
            }
        }
    }
}
