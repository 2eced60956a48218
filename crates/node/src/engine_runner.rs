//! Carries the brain's wishes to the packet engine, and the engine's news to the brain.

use std::net::SocketAddr;
use std::sync::Arc;

use backend::{EngineEvent, Event, PeersUpdate};
use dataplane::{Engine, Events, Firewall, Network, NodeCaps};
use filter::{Filter, Flows, LocalSet, Rules};
use keys::NodePrivate;
use tailcfg::FilterRule;
use tokio::sync::watch;

use crate::brain::BrainHandle;

/// The brain's hand on the engine.
pub(crate) struct EngineRunner {
    engine: Engine,
    brain: BrainHandle,
    /// Replies to what we have sent come in whatever becomes of the rules; with shields up they are counted apart.
    flows: Arc<Flows>,
    shielded_flows: Arc<Flows>,
    rules: Option<(Arc<[FilterRule]>, Rules)>,
}

impl EngineRunner {
    pub(crate) fn new(engine: Engine, brain: BrainHandle) -> Self {
        Self {
            engine,
            brain,
            flows: Arc::new(Flows::new()),
            shielded_flows: Arc::new(Flows::new()),
            rules: None,
        }
    }

    pub(crate) fn set_keys(&self, key: Option<NodePrivate>) {
        self.engine.set_keys(key);
    }

    pub(crate) fn set_derp_running(&self, running: bool) {
        self.engine.set_derp_running(running);
    }

    pub(crate) fn set_network(&mut self, wanted: &backend::Network) {
        let firewall = self.firewall(&wanted.filter);
        self.engine.set_network(Some(Arc::new(Network {
            self_addresses: wanted.self_addresses.clone(),
            peers: None,
            derp_map: wanted.derp_map.clone(),
            firewall,
            peerapi_port_v4: wanted.peerapi_port_v4,
            peerapi_port_v6: wanted.peerapi_port_v6,
            avoid: wanted.avoid,
        })));
    }

    pub(crate) fn set_peers(&self, update: PeersUpdate) {
        match update {
            PeersUpdate::All(peers) => self.engine.set_peers(peers),
            PeersUpdate::Patch { changed, removed } => {
                for id in removed {
                    self.engine.remove_peer(id);
                }
                for peer in changed {
                    self.engine.upsert_peer(peer);
                }
            }
        }
    }

    fn firewall(&mut self, wanted: &backend::FilterConfig) -> Firewall {
        let mut local = LocalSet::new(wanted.local.iter().copied());
        for (v6, all_but) in [false, true].into_iter().zip(&wanted.all_but) {
            if let Some(nets) = all_but {
                local = local.with_all_but(v6, nets.iter().copied());
            }
        }
        let jailed = Filter::shields_up(local.clone(), Arc::clone(&self.shielded_flows));
        let filter = if wanted.shields_up {
            Filter::shields_up(local, Arc::clone(&self.shielded_flows))
        } else {
            Filter::new(self.parsed(&wanted.rules), local, Arc::clone(&self.flows))
        };
        let brain = self.brain.clone();
        let caps = NodeCaps::new(move |ip, cap| {
            let snapshot = brain.snapshot();
            let peer = snapshot.netmap.as_ref().and_then(|netmap| netmap.by_ip(ip));
            peer.is_some_and(|peer| peer.has_cap(cap))
        });
        Firewall {
            filter: Some(Arc::new(filter)),
            jailed: Some(Arc::new(jailed)),
            caps,
        }
    }

    /// Rules are parsed, and their faults logged, once.
    fn parsed(&mut self, rules: &Arc<[FilterRule]>) -> Rules {
        if let Some((known, parsed)) = &self.rules
            && Arc::ptr_eq(known, rules)
        {
            return parsed.clone();
        }
        let (parsed, problems) = Rules::parse(rules);
        for problem in problems {
            tracing::warn!("packet filter: {problem}");
        }
        self.rules = Some((Arc::clone(rules), parsed.clone()));
        parsed
    }
}

/// Where we may be reached, and how that was found, in the control protocol's numbers. Nothing is decided by it, so it goes
/// from the engine to the control client past the brain.
pub(crate) type Endpoints = Vec<(SocketAddr, tailcfg::EndpointType)>;

/// Reports what the engine does until it stops.
pub(crate) async fn report(
    mut events: Events,
    engine: Engine,
    brain: BrainHandle,
    endpoints: watch::Sender<Endpoints>,
    tun_lost: watch::Sender<Option<String>>,
) {
    while let Some(event) = events.recv().await {
        if let dataplane::EngineEvent::TunLost(error) = event {
            tracing::error!("the TUN device is gone: {error}");
            tun_lost.send_replace(Some(error));
            continue;
        }
        if let dataplane::EngineEvent::Endpoints(found) = event {
            let all = found.iter().map(|found| (found.addr, found.kind as i32));
            endpoints.send_replace(all.collect());
            continue;
        }
        for news in translate(event, &engine).await {
            brain.report(Event::Engine(news)).await;
        }
    }
}

async fn translate(event: dataplane::EngineEvent, engine: &Engine) -> Vec<EngineEvent> {
    match event {
        dataplane::EngineEvent::HomeDerp(region) => vec![EngineEvent::HomeDerp(region)],
        dataplane::EngineEvent::DerpLinks { live, .. } => {
            vec![EngineEvent::Live {
                derps: live,
                peers: engine.status().await.live_peers(),
            }]
        }
        dataplane::EngineEvent::DerpConnected { region, connected } => {
            vec![EngineEvent::DerpConnected { region, connected }]
        }
        dataplane::EngineEvent::Udp4Unbound(unbound) => vec![EngineEvent::Udp4Unbound(unbound)],
        dataplane::EngineEvent::Ports(ports) => vec![EngineEvent::Ports(ports)],
        dataplane::EngineEvent::DerpTrouble { region, text } => {
            vec![EngineEvent::DerpTrouble { region, text }]
        }
        dataplane::EngineEvent::NetInfo(info) => {
            vec![EngineEvent::NetInfo(Box::new(net_info(info)))]
        }
        dataplane::EngineEvent::DiscoAdvertised { peer, key } => {
            vec![EngineEvent::DiscoAdvertised { peer, key }]
        }
        // Went their own way already.
        dataplane::EngineEvent::Endpoints(_) | dataplane::EngineEvent::TunLost(_) => Vec::new(),
    }
}

fn net_info(info: dataplane::NetInfo) -> tailcfg::NetInfo {
    tailcfg::NetInfo {
        mapping_varies_by_dest_ip: info.mapping_varies_by_dest_ip,
        working_ipv6: info.working_ipv6,
        os_has_ipv6: info.os_has_ipv6,
        working_udp: info.working_udp,
        working_icmpv4: info.working_icmpv4,
        preferred_derp: info.preferred_derp.into(),
        derp_latency: info.derp_latency,
        ..tailcfg::NetInfo::default()
    }
}
