//! The filter: what is checked in which order.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use packet::{Fragment, IpView, PrefixMap, Proto, addr, icmp};
use tailcfg::CapMap;

use crate::PeerCaps;
use crate::compiled::{Compiled, Question};
use crate::flows::{Flow, Flows};
use crate::rules::Rules;
use crate::verdict::{DropReason, Verdict};

/// A compiled filter. Immutable but for its flows.
pub struct Filter {
    rules: Compiled,
    local: LocalSet,
    flows: Arc<Flows>,
    shields_up: bool,
    hooks: Hooks,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter")
            .field("shields_up", &self.shields_up)
            .finish_non_exhaustive()
    }
}

/// The addresses that packets may come in for: our own, and those that we route for.
#[derive(Debug, Clone, Default)]
pub struct LocalSet {
    nets: PrefixMap<()>,
    /// Per family (IPv4, IPv6): everything but these.
    all_but: [Option<PrefixMap<()>>; 2],
}

impl LocalSet {
    /// These prefixes.
    pub fn new(nets: impl IntoIterator<Item = IpNet>) -> Self {
        Self {
            nets: nets.into_iter().map(|net| (net, ())).collect(),
            all_but: [None, None],
        }
    }

    /// Adds a whole family except these prefixes, as for an exit node, which is for the Internet but not for the
    /// networks around it. Prefixes given otherwise stay in.
    #[must_use]
    pub fn with_all_but(mut self, v6: bool, nets: impl IntoIterator<Item = IpNet>) -> Self {
        self.all_but[usize::from(v6)] = Some(nets.into_iter().map(|net| (net, ())).collect());
        self
    }

    /// Whether packets for `ip` may come in.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.nets.contains(ip)
            || self.all_but[usize::from(ip.is_ipv6())]
                .as_ref()
                .is_some_and(|excepted| !excepted.contains(ip))
    }
}

/// A test of a packet that a feature has registered.
pub type Hook = Arc<dyn Fn(&IpView<'_>) -> bool + Send + Sync>;

/// Exceptions that features have registered.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Packets that come in although no rule allows it.
    pub ingress: Vec<Hook>,
    /// Packets to link-local addresses that are not dropped for that.
    pub link_local: Vec<Hook>,
}

impl Filter {
    /// Compiles `rules` for a node with these addresses. `flows` goes from a filter to its successor.
    pub fn new(rules: Rules, local: LocalSet, flows: Arc<Flows>) -> Self {
        Self {
            rules: Compiled::new(rules),
            local,
            flows,
            shields_up: false,
            hooks: Hooks::default(),
        }
    }

    /// Lets in only replies to what we have sent. Its flows are its own: switching shields on forgets what was open.
    pub fn shields_up(local: LocalSet, flows: Arc<Flows>) -> Self {
        Self {
            shields_up: true,
            ..Self::new(Rules::default(), local, flows)
        }
    }

    /// Lets nothing in: there is no network.
    pub fn allow_none() -> Self {
        Self::new(Rules::default(), LocalSet::default(), Arc::default())
    }

    /// Adds exceptions.
    #[must_use]
    pub fn with_hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// Whether this is a shields-up filter.
    pub fn is_shields_up(&self) -> bool {
        self.shields_up
    }

    /// The addresses that packets may come in for.
    pub fn local(&self) -> &LocalSet {
        &self.local
    }

    /// Judges a packet from a peer.
    pub fn judge_in(&self, view: &IpView<'_>, caps: PeerCaps<'_>) -> Verdict {
        if let Some(verdict) = self.both_ways(view) {
            return verdict;
        }
        let ask = Question {
            proto: view.proto(),
            src: view.src(),
            dst: view.dst(),
            dst_port: view.dst_port(),
        };
        let kind = Kind::of(view);
        match self.policy(&ask, kind, Flow::of(view), caps) {
            Verdict::Drop(_) if self.hooks.ingress.iter().any(|hook| hook(view)) => Verdict::Accept,
            verdict => verdict,
        }
    }

    /// Judges a packet to a peer. Policy is enforced by its receiver; this only keeps in what never belongs in a tunnel,
    /// and remembers the flow, so that replies may come in.
    pub fn judge_out(&self, view: &IpView<'_>) -> Verdict {
        self.both_ways(view).unwrap_or_else(|| {
            self.note_out(view);
            Verdict::Accept
        })
    }

    /// Remembers the flow of a packet that we send, for senders that need no judgement.
    pub fn note_out(&self, view: &IpView<'_>) {
        if let Some(flow) = Flow::of(view) {
            self.flows.allow(flow.reversed());
        }
    }

    /// Judges a new flow without a packet: the first one that a peer would send.
    pub fn check(
        &self,
        proto: Proto,
        src: IpAddr,
        dst: std::net::SocketAddr,
        caps: PeerCaps<'_>,
    ) -> Verdict {
        if src.is_ipv4() != dst.is_ipv4() {
            return Verdict::Drop(DropReason::NoRule);
        }
        if let Some(reason) = Self::forbidden(dst.ip())
            && dst.ip() != IpAddr::V4(addr::CLOUD_METADATA)
        {
            return Verdict::Drop(reason);
        }
        let ask = Question {
            proto,
            src,
            dst: dst.ip(),
            dst_port: dst.port(),
        };
        let flow = Kind::of_proto(proto, src).eq(&Kind::Tracked).then(|| Flow {
            proto,
            src: (src, 0).into(),
            dst,
        });
        self.policy(&ask, Kind::of_proto(proto, src), flow, caps)
    }

    /// The capabilities that a peer's address has towards one of ours.
    pub fn caps_of(&self, src: IpAddr, dst: IpAddr) -> CapMap {
        self.rules.caps_of(src, dst)
    }

    /// What does not depend on rules or direction.
    fn both_ways(&self, view: &IpView<'_>) -> Option<Verdict> {
        if let Some(reason) = Self::forbidden(view.dst()) {
            let excepted = reason == DropReason::LinkLocalUnicast
                && (view.dst() == IpAddr::V4(addr::CLOUD_METADATA)
                    || self.hooks.link_local.iter().any(|hook| hook(view)));
            if !excepted {
                return Some(Verdict::Drop(reason));
            }
        }
        // Their first fragment was judged, and without it the receiver drops them.
        (view.fragment() == Fragment::Later).then_some(Verdict::Accept)
    }

    fn forbidden(dst: IpAddr) -> Option<DropReason> {
        let link_local = match dst {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        match dst {
            _ if dst.is_multicast() => Some(DropReason::Multicast),
            _ if link_local => Some(DropReason::LinkLocalUnicast),
            _ => None,
        }
    }

    fn policy(
        &self,
        ask: &Question,
        kind: Kind,
        flow: Option<Flow>,
        caps: PeerCaps<'_>,
    ) -> Verdict {
        // Whatever the rules say about others: a peer must not use us to reach them.
        if !self.local.contains(ask.dst) {
            return Verdict::Drop(DropReason::NotLocal);
        }
        let accept = match kind {
            Kind::IcmpReply | Kind::TcpGoesOn | Kind::Tsmp => true,
            Kind::Icmp => self.rules.allow_icmp(ask, caps),
            Kind::TcpOpens => self.rules.allow(ask, caps),
            Kind::Tracked => {
                flow.is_some_and(|flow| self.flows.allows(&flow)) || self.rules.allow(ask, caps)
            }
            Kind::Portless => self.rules.allow_portless(ask),
        };
        match (accept, self.shields_up) {
            (true, _) => Verdict::Accept,
            (false, true) => Verdict::Drop(DropReason::ShieldsUp),
            (false, false) => Verdict::Drop(DropReason::NoRule),
        }
    }
}

/// The kinds of packets that rules treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An echo reply or an error message: somebody must have sent what it answers.
    IcmpReply,
    Icmp,
    TcpOpens,
    /// Not the first packet of a connection; the receiver's TCP knows which ones exist.
    TcpGoesOn,
    /// UDP and SCTP.
    Tracked,
    Tsmp,
    Portless,
}

impl Kind {
    fn of(view: &IpView<'_>) -> Self {
        match Self::of_proto(view.proto(), view.src()) {
            Self::Icmp if icmp::is_echo_reply(view) || icmp::is_error(view) => Self::IcmpReply,
            Self::TcpOpens if !view.tcp_flags().opens() => Self::TcpGoesOn,
            kind => kind,
        }
    }

    fn of_proto(proto: Proto, src: IpAddr) -> Self {
        match (proto, src) {
            (Proto::ICMP4, IpAddr::V4(_)) | (Proto::ICMP6, IpAddr::V6(_)) => Self::Icmp,
            (Proto::TCP, _) => Self::TcpOpens,
            (Proto::UDP | Proto::SCTP, _) => Self::Tracked,
            (Proto::TSMP, _) => Self::Tsmp,
            _ => Self::Portless,
        }
    }
}
