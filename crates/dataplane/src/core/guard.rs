//! What may come in.

use std::net::IpAddr;

use metrics::DropReason;
use packet::{IpView, Proto, TcpFlags};

/// What becomes of a packet from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop {
        reason: DropReason,
        shields_up: bool,
    },
}

/// The packet filter and its exceptions. By default nothing comes in.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    peerapi_v4: u16,
    peerapi_v6: u16,
}

impl Guard {
    /// Where our PeerAPI listens; 0 for nowhere.
    pub(crate) fn set_peerapi(&mut self, v4: u16, v6: u16) {
        (self.peerapi_v4, self.peerapi_v6) = (v4, v6);
    }

    /// Where our PeerAPI listens in the family of `ip`; 0 for nowhere.
    pub(crate) fn peerapi_port(&self, ip: IpAddr) -> u16 {
        match ip {
            IpAddr::V4(_) => self.peerapi_v4,
            IpAddr::V6(_) => self.peerapi_v6,
        }
    }

    /// Judges a packet from a peer. The PeerAPI has its own access rules, so openings to it pass in any case.
    pub(crate) fn judge_in(&mut self, view: &IpView<'_>, jailed: bool) -> Verdict {
        let verdict = self.judge_by_rules(view, jailed);
        if verdict != Verdict::Accept && self.is_peerapi(view) {
            return Verdict::Accept;
        }
        verdict
    }

    /// Notes a packet to a peer, so that its answer may come in.
    pub(crate) fn note_out(&mut self, view: &IpView<'_>, jailed: bool) {
        let _ = (view, jailed);
    }

    fn judge_by_rules(&mut self, view: &IpView<'_>, jailed: bool) -> Verdict {
        let _ = (view, jailed);
        Verdict::Drop {
            reason: DropReason::Acl,
            shields_up: false,
        }
    }

    fn is_peerapi(&self, view: &IpView<'_>) -> bool {
        let port = self.peerapi_port(view.dst());
        port != 0
            && view.is(Proto::TCP)
            && view.tcp_flags().has(TcpFlags::SYN)
            && view.dst_port() == port
    }
}
