//! What may come in.

use std::net::IpAddr;
use std::sync::Arc;

use filter::{Filter, Verdict};
use metrics::DropReason;
use packet::{IpView, Proto, TcpFlags};

use crate::NodeCaps;

/// The packet filter and its exceptions. By default nothing comes in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guard {
    pub(crate) filter: Option<Arc<Filter>>,
    /// For peers that may only answer us.
    pub(crate) jailed: Option<Arc<Filter>>,
    pub(crate) caps: NodeCaps,
    pub(crate) peerapi_v4: u16,
    pub(crate) peerapi_v6: u16,
    /// Our own addresses.
    pub(crate) own: Vec<IpAddr>,
}

impl Guard {
    /// Where our PeerAPI listens in the family of `ip`; 0 for nowhere.
    pub(crate) fn peerapi_port(&self, ip: IpAddr) -> u16 {
        match ip {
            IpAddr::V4(_) => self.peerapi_v4,
            IpAddr::V6(_) => self.peerapi_v6,
        }
    }

    /// Judges a packet from a peer. The PeerAPI has its own access rules, so openings to it pass in any case.
    pub(crate) fn judge_in(&self, view: &IpView<'_>, jailed: bool) -> Verdict {
        let verdict = match self.filter_for(jailed) {
            Some(filter) => filter.judge_in(view, &|ip, cap| self.caps.has(ip, cap)),
            None => Verdict::Drop(filter::DropReason::NoRule),
        };
        let is_opening = || view.tcp_flags().has(TcpFlags::SYN);
        if verdict.is_drop() && self.is_peerapi(view) && is_opening() {
            return Verdict::Accept;
        }
        verdict
    }

    /// Remembers the flow of a packet to a peer, so that the answer may come in.
    pub(crate) fn note_out(&self, view: &IpView<'_>, jailed: bool) {
        if let Some(filter) = self.filter_for(jailed) {
            filter.note_out(view);
        }
    }

    /// Judges a packet from the host to a peer, and remembers its flow. Without a filter there is no network yet.
    pub(crate) fn judge_out(&self, view: &IpView<'_>, jailed: bool) -> Verdict {
        match self.filter_for(jailed) {
            Some(filter) => filter.judge_out(view),
            None => Verdict::Drop(filter::DropReason::NoRule),
        }
    }

    /// Whether a refusal by this filter is for shields.
    pub(crate) fn is_shields_up(&self, jailed: bool) -> bool {
        self.filter_for(jailed)
            .is_some_and(|filter| filter.is_shields_up())
    }

    fn filter_for(&self, jailed: bool) -> Option<&Filter> {
        if jailed {
            self.jailed.as_deref()
        } else {
            self.filter.as_deref()
        }
    }

    /// Whether a packet is for our PeerAPI, which our own stack has on every machine.
    pub(crate) fn is_peerapi(&self, view: &IpView<'_>) -> bool {
        let port = self.peerapi_port(view.dst());
        port != 0
            && view.dst_port() == port
            && view.is(Proto::TCP)
            && self.own.contains(&view.dst())
    }
}

/// The label under which a drop is counted.
pub(crate) fn label(reason: filter::DropReason) -> DropReason {
    match reason {
        filter::DropReason::TooShort => DropReason::TooShort,
        filter::DropReason::UnknownProtocol => DropReason::UnknownProtocol,
        filter::DropReason::Multicast => DropReason::Multicast,
        filter::DropReason::LinkLocalUnicast => DropReason::LinkLocalUnicast,
        filter::DropReason::NotLocal
        | filter::DropReason::NoRule
        | filter::DropReason::ShieldsUp => DropReason::Acl,
    }
}
