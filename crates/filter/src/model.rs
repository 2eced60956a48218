//! The rules again, as naively as they can be written: every rule, every source, every destination, in order.

use std::net::IpAddr;

use packet::{Fragment, IpView, Proto};

use crate::rules::{Rule, Rules};
use crate::{LocalSet, PeerCaps};

/// Whether the packet may come in, flows and hooks aside.
pub(crate) fn accepts(
    rules: &Rules,
    local: &LocalSet,
    view: &IpView<'_>,
    caps: PeerCaps<'_>,
) -> bool {
    let (src, dst) = (view.src(), view.dst());
    if dst.is_multicast() || link_local(dst) {
        return false;
    }
    if view.fragment() == Fragment::Later {
        return true;
    }
    if !local.contains(dst) {
        return false;
    }
    let v4 = dst.is_ipv4();
    let icmp = view.proto() == if v4 { Proto::ICMP4 } else { Proto::ICMP6 };
    if icmp {
        return icmp_answers(view, v4)
            || rules.rules.iter().any(|rule| icmp_by(rule, src, dst, caps));
    }
    match view.proto() {
        Proto::TSMP => true,
        Proto::TCP if view.tcp_flags().0 & 0x12 != 0x02 => true,
        Proto::TCP | Proto::UDP | Proto::SCTP => rules.rules.iter().any(|rule| {
            rule.protos.has(view.proto())
                && (by_address(rule, src) || by_cap(rule, src, caps))
                && rule.dsts.iter().any(|d| {
                    d.net.contains(&dst) && d.first <= view.dst_port() && view.dst_port() <= d.last
                })
        }),
        proto => rules.rules.iter().any(|rule| {
            rule.protos.has(proto)
                && by_address(rule, src)
                && rule
                    .dsts
                    .iter()
                    .any(|d| d.net.contains(&dst) && d.first == 0 && d.last == 65535)
        }),
    }
}

fn link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            a == 169 && b == 254 && (c, d) != (169, 254)
        }
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn icmp_answers(view: &IpView<'_>, v4: bool) -> bool {
    let body = view.transport();
    let (kind, code) = (body[0], body[1]);
    let long = body.len() >= 8;
    if v4 {
        long && ((kind, code) == (0, 0) || [3, 11, 12].contains(&kind))
    } else {
        long && ((kind, code) == (129, 0) || (1..=4).contains(&kind))
    }
}

fn icmp_by(rule: &Rule, src: IpAddr, dst: IpAddr, caps: PeerCaps<'_>) -> bool {
    let family = |d: &crate::rules::Dst| d.net.addr().is_ipv4() == dst.is_ipv4();
    (by_address(rule, src) && rule.dsts.iter().any(|d| d.net.contains(&dst)))
        || (by_cap(rule, src, caps) && rule.dsts.iter().any(family))
}

fn by_address(rule: &Rule, src: IpAddr) -> bool {
    rule.srcs.iter().any(|net| net.contains(&src))
}

fn by_cap(rule: &Rule, src: IpAddr, caps: PeerCaps<'_>) -> bool {
    rule.src_caps.iter().any(|cap| caps(src, cap))
}
