//! What the relay counts.

use metrics::Counter;

/// Why a packet was not relayed. Names are those of the originals' metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Nobody with that key is connected.
    UnknownDest,
    /// The receiver disconnected before the packet could be written.
    GoneDisconnected,
    /// The receiver's queue was full; its oldest packet made room.
    QueueHead,
    /// Writing to the receiver failed.
    WriteError,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [
        Self::UnknownDest,
        Self::GoneDisconnected,
        Self::QueueHead,
        Self::WriteError,
    ];

    /// The label of the originals' metric.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownDest => "unknown_dest",
            Self::GoneDisconnected => "gone_disconnected",
            Self::QueueHead => "queue_head",
            Self::WriteError => "write_error",
        }
    }
}

/// What a packet is, as far as a relay can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PacketKind {
    /// A disco message.
    Disco,
    /// Anything else.
    Other,
}

impl PacketKind {
    pub(crate) fn of(packet: &[u8]) -> Self {
        if derp::looks_like_disco(packet) {
            Self::Disco
        } else {
            Self::Other
        }
    }

    /// The label of the originals' metric.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disco => "disco",
            Self::Other => "other",
        }
    }
}

#[derive(Debug, Default)]
struct Dropped {
    packets: Counter,
    bytes: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) accepts: Counter,
    pub(crate) packets_received: Counter,
    pub(crate) bytes_received: Counter,
    pub(crate) packets_sent: Counter,
    pub(crate) bytes_sent: Counter,
    pub(crate) peer_gone_sent: Counter,
    pub(crate) stun_answered: Counter,
    pub(crate) stun_refused: Counter,
    dropped: [[Dropped; 2]; DropReason::ALL.len()],
}

impl Stats {
    pub(crate) fn drop_packets(
        &self,
        reason: DropReason,
        kind: PacketKind,
        packets: u64,
        bytes: u64,
    ) {
        let dropped = &self.dropped[reason as usize][kind as usize];
        dropped.packets.add(packets);
        dropped.bytes.add(bytes);
    }

    pub(crate) fn snapshot(&self, clients: usize) -> Snapshot {
        let mut dropped = Vec::new();
        for reason in DropReason::ALL {
            for kind in [PacketKind::Disco, PacketKind::Other] {
                let counters = &self.dropped[reason as usize][kind as usize];
                dropped.push((reason, kind, counters.packets.get(), counters.bytes.get()));
            }
        }
        Snapshot {
            accepts: self.accepts.get(),
            clients,
            packets_received: self.packets_received.get(),
            bytes_received: self.bytes_received.get(),
            packets_sent: self.packets_sent.get(),
            bytes_sent: self.bytes_sent.get(),
            peer_gone_sent: self.peer_gone_sent.get(),
            stun_answered: self.stun_answered.get(),
            stun_refused: self.stun_refused.get(),
            dropped,
        }
    }
}

/// The counters at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Relay connections that began since the start.
    pub accepts: u64,
    /// Relay connections now.
    pub clients: usize,
    /// Packets that clients sent.
    pub packets_received: u64,
    /// Their bytes, without framing.
    pub bytes_received: u64,
    /// Packets written to clients.
    pub packets_sent: u64,
    /// Their bytes, without framing.
    pub bytes_sent: u64,
    /// How often a client was told that a peer is gone.
    pub peer_gone_sent: u64,
    /// STUN requests answered.
    pub stun_answered: u64,
    /// Datagrams to the STUN port that were no request of a tailnet node.
    pub stun_refused: u64,
    /// Packets and bytes not relayed, by reason and kind.
    pub dropped: Vec<(DropReason, PacketKind, u64, u64)>,
}

impl Snapshot {
    /// All packets not relayed for `reason`.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        let of_reason = self.dropped.iter().filter(|entry| entry.0 == reason);
        of_reason.map(|entry| entry.2).sum()
    }
}
