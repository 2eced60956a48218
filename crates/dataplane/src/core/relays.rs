//! What is known of the links to relays.

use std::collections::BTreeMap;

use magicsock::LinkId;

use super::{Core, Effect};
use crate::link::LinkEvent;
use crate::probe::ProbeAnswer;
use crate::{DerpLinkStatus, EngineEvent, NetInfo};

#[derive(Debug)]
struct State {
    region: u16,
    connected: bool,
    /// Whether the first attempt to connect has ended.
    tried: bool,
    trouble: String,
}

#[derive(Debug, Default)]
pub(crate) struct RelayStates {
    links: BTreeMap<LinkId, State>,
    told: (usize, usize),
    net_info: Option<NetInfo>,
}

impl RelayStates {
    pub(crate) fn status(&self) -> BTreeMap<u16, DerpLinkStatus> {
        let status = |state: &State| DerpLinkStatus {
            connected: state.connected,
            trouble: state.trouble.clone(),
        };
        let links = self.links.values();
        links.map(|state| (state.region, status(state))).collect()
    }

    fn counts(&self) -> (usize, usize) {
        let count = |f: fn(&State) -> bool| self.links.values().filter(|state| f(state)).count();
        (count(|state| state.tried), count(|state| state.connected))
    }
}

impl Core {
    /// Something happened on a link.
    pub(crate) fn handle_link(&mut self, link: LinkId, event: LinkEvent) {
        let now = self.clocks.now;
        if !matches!(event, LinkEvent::Down(_)) {
            self.magic.note_frame(link, now);
        }
        match event {
            LinkEvent::Connected => self.link_state(link, true, String::new()),
            LinkEvent::Down(error) => {
                self.magic.handle_link_down(link, now);
                self.link_state(link, false, error);
            }
            LinkEvent::Packets(packets) => self.handle_packets(link, packets),
            LinkEvent::PeerGone(key, credit) => {
                self.magic.handle_peer_gone(link, &key);
                drop(credit);
            }
            LinkEvent::Health(text, credit) => {
                self.set_trouble(link, text);
                drop(credit);
            }
            LinkEvent::Alive(credit) => drop(credit),
        }
        self.drain_magic();
    }

    /// A step of a measurement was done.
    pub(crate) fn handle_probe(&mut self, answer: ProbeAnswer) {
        let (now, rng) = (self.clocks.now, &mut *self.rng);
        match answer {
            ProbeAnswer::Sent(family, ok) => self.magic.handle_probe_sent(family, ok),
            ProbeAnswer::Resolved(probe, ip) => self.magic.handle_resolved(probe, ip, now, rng),
            ProbeAnswer::Https(region, answer) => {
                self.magic.handle_https(region, answer, now, rng);
            }
        }
        self.drain_magic();
    }

    pub(super) fn open_link(&mut self, link: LinkId, region: u16, home: bool) {
        let Some(key) = self.key.clone() else {
            return;
        };
        let Some(region) = self.magic.region(region).cloned() else {
            return;
        };
        let state = State {
            region: region.id,
            connected: false,
            tried: false,
            trouble: String::new(),
        };
        self.relays.links.insert(link, state);
        self.effects.push(Effect::OpenLink {
            link,
            region,
            home,
            key,
        });
    }

    pub(super) fn close_link(&mut self, link: LinkId, why: &'static str) {
        self.sends.remove(&link);
        let Some(state) = self.relays.links.remove(&link) else {
            return;
        };
        let region = state.region;
        tracing::info!("closing connection to derp-{region} ({why})");
        self.effects.push(Effect::CloseLink { link });
        if state.connected {
            self.event(EngineEvent::DerpConnected {
                region,
                connected: false,
            });
        }
        if !state.trouble.is_empty() {
            self.event(EngineEvent::DerpTrouble {
                region,
                text: String::new(),
            });
        }
        self.tell_counts();
    }

    /// Takes a report; control hears of it only if something but a latency changed.
    pub(super) fn take_report(&mut self, report: netcheck::Report) {
        let info = net_info(&report);
        let same = self.relays.net_info.as_ref().is_some_and(|old| {
            let latencies = info.derp_latency.clone();
            let old = NetInfo {
                derp_latency: latencies,
                ..old.clone()
            };
            old == info
        });
        if !same {
            self.relays.net_info = Some(info.clone());
            self.event(EngineEvent::NetInfo(info));
        }
    }

    fn link_state(&mut self, link: LinkId, connected: bool, trouble: String) {
        let Some(state) = self.relays.links.get_mut(&link) else {
            return;
        };
        let was = std::mem::replace(&mut state.connected, connected);
        state.tried = true;
        let region = state.region;
        if was != connected {
            self.event(EngineEvent::DerpConnected { region, connected });
        }
        self.set_trouble(link, trouble);
        self.tell_counts();
    }

    fn set_trouble(&mut self, link: LinkId, text: String) {
        let Some(state) = self.relays.links.get_mut(&link) else {
            return;
        };
        if state.trouble != text {
            state.trouble.clone_from(&text);
            let region = state.region;
            self.event(EngineEvent::DerpTrouble { region, text });
        }
    }

    fn tell_counts(&mut self) {
        let counts = self.relays.counts();
        if self.relays.told != counts {
            self.relays.told = counts;
            let (live, connected) = counts;
            self.event(EngineEvent::DerpLinks { live, connected });
        }
    }
}

/// The wire's view of a report. A latency by HTTPS has no family, and no place there.
fn net_info(report: &netcheck::Report) -> NetInfo {
    let mut derp_latency = BTreeMap::new();
    for (family, latencies) in [
        ("v4", &report.region_v4_latency),
        ("v6", &report.region_v6_latency),
    ] {
        for (region, latency) in latencies {
            derp_latency.insert(format!("{region}-{family}"), latency.as_secs_f64());
        }
    }
    NetInfo {
        mapping_varies_by_dest_ip: report.mapping_varies_by_dest_ip,
        working_ipv6: Some(report.ipv6),
        os_has_ipv6: Some(report.os_has_ipv6),
        working_udp: Some(report.udp),
        working_icmpv4: Some(report.icmpv4),
        preferred_derp: report.preferred_derp.unwrap_or_default(),
        derp_latency,
    }
}
