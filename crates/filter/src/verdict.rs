//! What becomes of a packet.

use packet::Unparsed;

/// The judgement of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may pass.
    Accept,
    /// It is dropped.
    Drop(DropReason),
}

/// Why a packet is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Shorter than an IP header.
    TooShort,
    /// Not a packet that the parser understands.
    UnknownProtocol,
    /// To a multicast address.
    Multicast,
    /// To a link-local address.
    LinkLocalUnicast,
    /// To an address that is not ours to receive for.
    NotLocal,
    /// No rule allows it.
    NoRule,
    /// Shields are up, and nobody asked for it.
    ShieldsUp,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::TooShort,
        Self::UnknownProtocol,
        Self::Multicast,
        Self::LinkLocalUnicast,
        Self::NotLocal,
        Self::NoRule,
        Self::ShieldsUp,
    ];

    /// The value of the metric's `reason` label. All that rules decide is `acl`, as for the originals.
    pub const fn label(self) -> &'static str {
        match self {
            Self::TooShort => "too_short",
            Self::UnknownProtocol => "unknown_protocol",
            Self::Multicast => "multicast",
            Self::LinkLocalUnicast => "link_local_unicast",
            Self::NotLocal | Self::NoRule | Self::ShieldsUp => "acl",
        }
    }
}

impl Verdict {
    /// Whether it is dropped.
    pub const fn is_drop(self) -> bool {
        matches!(self, Self::Drop(_))
    }
}

/// The judgement of bytes that are no packet: an empty one is a keepalive and passes, everything else is dropped.
impl From<Unparsed> for Verdict {
    fn from(unparsed: Unparsed) -> Self {
        match unparsed {
            Unparsed::Empty => Self::Accept,
            Unparsed::TooShort => Self::Drop(DropReason::TooShort),
            Unparsed::NotIp
            | Unparsed::Malformed
            | Unparsed::CutTransport
            | Unparsed::OverlappingFragment
            | Unparsed::BadProtocol => Self::Drop(DropReason::UnknownProtocol),
        }
    }
}
