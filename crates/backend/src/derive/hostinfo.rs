//! What we say of ourselves.

use ipn::Prefs;
use tailcfg::{Hostinfo, NetInfo, Service};

/// The machine's own facts, and what the user wants added to them.
pub(crate) fn hostinfo(
    base: &Hostinfo,
    prefs: &Prefs,
    net_info: Option<&NetInfo>,
    peerapi_ports: (u16, u16),
) -> Hostinfo {
    let mut info = base.clone();
    if !prefs.hostname.is_empty() {
        info.hostname.clone_from(&prefs.hostname);
    }
    info.routable_ips.clone_from(&prefs.advertise_routes);
    info.routable_ips.sort();
    info.routable_ips.dedup();
    info.request_tags.clone_from(&prefs.advertise_tags);
    info.request_tags.sort();
    info.request_tags.dedup();
    info.shields_up = prefs.shields_up;
    if let Some(net_info) = net_info {
        info.net_info = Some(net_info.clone().into());
    }
    let services = [("peerapi4", peerapi_ports.0), ("peerapi6", peerapi_ports.1)];
    let has_api = peerapi_ports != (0, 0);
    // The port says nothing.
    let proxy = (has_api && prefs.advertises_exit_node()).then_some((super::dns::PROXY, 1));
    let services = services.into_iter().filter(|(_, port)| *port != 0);
    let services = services.chain(proxy);
    info.services.extend(services.map(|(proto, port)| Service {
        proto: proto.to_owned(),
        port,
        ..Service::default()
    }));
    info
}
