//! What waits to be written to one client.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use derp::{PeerGoneReason, put};
use keys::NodePublic;
use tokio::sync::Notify;

use crate::limits;
use crate::stats::PacketKind;

/// Frames ready to be written, so that the writer takes many with one copy or none. Data, disco messages and the relay's own
/// frames have room of their own.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Debug)]
struct Inner {
    data: Lane,
    disco: Lane,
    control: Vec<u8>,
    pong: Option<[u8; 8]>,
    writer_waits: bool,
    closed: bool,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            data: Lane::new(limits::QUEUE_PACKETS, limits::QUEUE_BYTES),
            disco: Lane::new(limits::QUEUE_DISCO, limits::QUEUE_BYTES),
            control: Vec::new(),
            pong: None,
            writer_waits: false,
            closed: false,
        }
    }
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits; this many older ones, with their bytes, had to go.
    Queued {
        lost: u64,
        lost_bytes: u64,
        /// The writer should get to run before more is pushed.
        crowded: bool,
    },
    /// The client is gone.
    Closed,
}

/// What the writer got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl SendQueue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change below is complete before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push_packet(&self, kind: PacketKind, src: &NodePublic, packet: &[u8]) -> Pushed {
        let mut inner = self.lock();
        if inner.closed {
            return Pushed::Closed;
        }
        let lane = match kind {
            PacketKind::Disco => &mut inner.disco,
            PacketKind::Other => &mut inner.data,
        };
        let (lost, lost_bytes) = lane.push(src, packet);
        let crowded = lane.crowded();
        self.wake_writer(inner);
        Pushed::Queued {
            lost,
            lost_bytes,
            crowded,
        }
    }

    pub(crate) fn push_peer_gone(&self, peer: &NodePublic, reason: PeerGoneReason) {
        self.push_control(|out| put::peer_gone(out, peer, reason));
    }

    pub(crate) fn push_control(&self, put: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.lock();
        if !inner.closed {
            put(&mut inner.control);
            self.wake_writer(inner);
        }
    }

    /// Answers a ping, unless an answer still waits: who pings faster than it reads gets fewer answers.
    pub(crate) fn push_pong(&self, data: [u8; 8]) {
        let mut inner = self.lock();
        if inner.pong.is_none() && !inner.closed {
            inner.pong = Some(data);
            self.wake_writer(inner);
        }
    }

    fn wake_writer(&self, mut inner: MutexGuard<'_, Inner>) {
        let waits = std::mem::take(&mut inner.writer_waits);
        drop(inner);
        if waits {
            self.wake.notify_one();
        }
    }

    /// Appends everything that waits to `out`.
    pub(crate) fn take(&self, out: &mut Vec<u8>) -> Taken {
        let mut inner = self.lock();
        out.append(&mut inner.control);
        if let Some(data) = inner.pong.take() {
            put::pong(out, data);
        }
        let disco = inner.disco.take(out);
        let data = inner.data.take(out);
        inner.writer_waits = out.is_empty();
        Taken {
            packets: disco.packets + data.packets,
            bytes: disco.bytes + data.bytes,
        }
    }

    /// Waits until something was pushed after an empty [`take`](Self::take).
    pub(crate) async fn ready(&self) {
        self.wake.notified().await;
    }

    /// Gives back the memory of a burst.
    pub(crate) fn shrink(&self) {
        let mut inner = self.lock();
        let Inner { data, disco, .. } = &mut *inner;
        for lane in [data, disco] {
            if lane.lens.is_empty() && lane.bytes.capacity() > limits::IDLE_BUFFER {
                lane.bytes = Vec::new();
            }
        }
    }

    /// Takes no more packets; returns those that were never taken, by kind.
    pub(crate) fn close(&self) -> [(PacketKind, Taken); 2] {
        let mut inner = self.lock();
        inner.closed = true;
        let mut rest = Vec::new();
        [
            (PacketKind::Disco, inner.disco.take(&mut rest)),
            (PacketKind::Other, inner.data.take(&mut rest)),
        ]
    }
}

/// Whole frames in one buffer; the oldest go when there is no room.
#[derive(Debug)]
struct Lane {
    bytes: Vec<u8>,
    /// Frames before this were dropped.
    start: usize,
    /// Bytes of each packet's frame.
    lens: VecDeque<u32>,
    max_packets: usize,
    max_bytes: usize,
}

impl Lane {
    fn new(max_packets: usize, max_bytes: usize) -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            lens: VecDeque::new(),
            max_packets,
            max_bytes,
        }
    }

    fn push(&mut self, src: &NodePublic, packet: &[u8]) -> (u64, u64) {
        let frame = put::packet_frame_len(packet.len());
        let (mut lost, mut lost_bytes) = (0, 0);
        while self.lens.len() >= self.max_packets
            || self.bytes.len() - self.start + frame > self.max_bytes
        {
            let Some(len) = self.lens.pop_front() else {
                break;
            };
            self.start += len as usize;
            lost += 1;
            lost_bytes += u64::from(len) - FRAMING;
        }
        // Dropped frames are cut off rarely, so that dropping stays cheap.
        if self.start > self.max_bytes {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        // The decoder refuses longer packets than the encoder.
        if put::recv_packet(&mut self.bytes, src, packet).is_ok() {
            self.lens.push_back(frame as u32);
        }
        (lost, lost_bytes)
    }

    fn crowded(&self) -> bool {
        self.lens.len() > self.max_packets / 4 || self.bytes.len() - self.start > self.max_bytes / 4
    }

    fn take(&mut self, out: &mut Vec<u8>) -> Taken {
        let taken = Taken {
            packets: self.lens.len() as u64,
            bytes: self.lens.iter().map(|len| u64::from(*len) - FRAMING).sum(),
        };
        if out.is_empty() && self.start == 0 {
            std::mem::swap(out, &mut self.bytes);
        } else {
            out.extend_from_slice(&self.bytes[self.start..]);
            self.bytes.clear();
        }
        self.start = 0;
        self.lens.clear();
        taken
    }
}

const FRAMING: u64 = put::packet_frame_len(0) as u64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SRC: NodePublic = NodePublic::from_bytes([1; 32]);

    #[test]
    fn the_oldest_packets_make_room() {
        let queue = SendQueue::default();
        let mut lost = 0;
        for n in 0..300u32 {
            match queue.push_packet(PacketKind::Other, &SRC, &n.to_be_bytes()) {
                Pushed::Queued {
                    lost: l,
                    lost_bytes,
                    ..
                } => {
                    assert_eq!(lost_bytes, 4 * l);
                    lost += l;
                }
                Pushed::Closed => panic!("closed"),
            }
        }
        assert_eq!(lost, 300 - limits::QUEUE_PACKETS as u64);
        let mut out = Vec::new();
        let taken = queue.take(&mut out);
        assert_eq!(
            taken,
            Taken {
                packets: 256,
                bytes: 1024
            }
        );
        assert_eq!(out.len(), 256 * put::packet_frame_len(4));
        assert_eq!(
            out[put::packet_frame_len(0)..put::packet_frame_len(4)],
            44u32.to_be_bytes()
        );
    }

    #[test]
    fn bytes_are_bounded_too() {
        let queue = SendQueue::default();
        let packet = vec![0; derp::MAX_PACKET_LEN];
        for _ in 0..50 {
            queue.push_packet(PacketKind::Other, &SRC, &packet);
        }
        let mut out = Vec::new();
        assert_eq!(queue.take(&mut out).packets, 7);
        assert!(out.len() <= limits::QUEUE_BYTES);
    }

    #[test]
    fn data_does_not_push_disco_out() {
        let queue = SendQueue::default();
        let mut disco = b"TS\xf0\x9f\x92\xac".to_vec();
        disco.resize(100, 0);
        queue.push_packet(PacketKind::of(&disco), &SRC, &disco);
        for _ in 0..1000 {
            queue.push_packet(PacketKind::Other, &SRC, b"x");
        }
        let mut out = Vec::new();
        assert_eq!(queue.take(&mut out).packets, 257);
        assert_eq!(out[put::packet_frame_len(0)..][..6], disco[..6]);
    }

    #[test]
    fn one_pong_at_a_time_and_nothing_after_the_end() {
        let queue = SendQueue::default();
        queue.push_pong([1; 8]);
        queue.push_pong([2; 8]);
        let mut out = Vec::new();
        queue.take(&mut out);
        assert_eq!(out, [&[0x13, 0, 0, 0, 8][..], &[1; 8]].concat());
        queue.push_packet(PacketKind::Other, &SRC, b"abc");
        let rest = queue.close();
        assert_eq!(
            rest[1].1,
            Taken {
                packets: 1,
                bytes: 3
            }
        );
        assert_eq!(
            queue.push_packet(PacketKind::Other, &SRC, b"x"),
            Pushed::Closed
        );
        out.clear();
        queue.push_pong([3; 8]);
        queue.push_peer_gone(&SRC, PeerGoneReason::NOT_HERE);
        queue.take(&mut out);
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_taken_is_the_newest_in_order(
            lens in prop::collection::vec(0usize..20_000, 0..400),
            take_every in 1usize..300,
        ) {
            let queue = SendQueue::default();
            let mut waiting: VecDeque<usize> = VecDeque::new();
            for (n, len) in lens.iter().enumerate() {
                let pushed = queue.push_packet(PacketKind::Other, &SRC, &vec![n as u8; *len]);
                let Pushed::Queued { lost, lost_bytes, .. } = pushed else { panic!("{pushed:?}") };
                let gone: usize = waiting.drain(..lost as usize).sum();
                prop_assert_eq!(gone as u64, lost_bytes);
                waiting.push_back(*len);
                if n % take_every == 0 {
                    let mut out = Vec::new();
                    let taken = queue.take(&mut out);
                    prop_assert_eq!(taken.packets, waiting.len() as u64);
                    let frames: usize = waiting.drain(..).map(put::packet_frame_len).sum();
                    prop_assert_eq!(out.len(), frames);
                    prop_assert!(out.len() <= limits::QUEUE_BYTES);
                }
            }
        }
    }
}
