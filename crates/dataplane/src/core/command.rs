//! What the handle asks of the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use host::{Instant, LinkState, PeerConfig, Wall};
use keys::NodePrivate;
use magicsock::PingScope;
use packet::PeerId;
use packet::icmp::Echo;
use packet::tsmp;
use tokio::sync::oneshot;
use wireguard::{Gate, Identity, IndexTable};

use super::pings::{PingReply, Token};
use super::{Core, Effect};
use crate::{EngineStatus, Firewall, Network, PeerStatus, PingError, PingKind, PingRequest};

#[derive(Debug)]
pub(crate) enum Command {
    SetKeys(Option<NodePrivate>),
    SetNetwork(Option<Arc<Network>>),
    SetPeers(Vec<Arc<PeerConfig>>),
    UpsertPeer(Arc<PeerConfig>),
    RemovePeer(PeerId),
    SetFirewall(Firewall),
    SetDerpRunning(bool),
    SetMapStreaming(bool),
    SetLinks(Arc<LinkState>),
    LinkChanged { major: bool },
    Ping(PingRequest, PingReply),
    Status(oneshot::Sender<EngineStatus>),
}

impl Core {
    pub(crate) fn handle_command(&mut self, command: Command) {
        let now = self.clocks.now;
        match command {
            Command::SetKeys(key) => self.set_keys(key),
            Command::SetNetwork(network) => self.set_network(network),
            Command::SetPeers(peers) => self.set_peers(peers),
            Command::UpsertPeer(peer) => self.upsert_peer(peer),
            Command::RemovePeer(id) => self.remove_peer(id),
            Command::SetFirewall(firewall) => self.set_firewall(firewall),
            Command::SetDerpRunning(running) => self.magic.set_running(running, now),
            Command::SetMapStreaming(streaming) => self.magic.set_map_streaming(streaming),
            Command::SetLinks(links) => self.magic.set_links(&links),
            Command::LinkChanged { major } => {
                self.magic.handle_link_change(major, now);
                if major {
                    self.effects.push(Effect::Rebind);
                    let addresses = self.magic.local_addresses().to_vec();
                    self.effects.push(Effect::CheckLinks { addresses });
                }
            }
            Command::Ping(request, reply) => self.ping(request, reply),
            // An asker who is gone needs no answer.
            Command::Status(reply) => drop(reply.send(self.status())),
        }
        self.drain_magic();
    }

    fn set_keys(&mut self, key: Option<NodePrivate>) {
        let key = key.filter(|key| !key.is_zero());
        if self.key == key {
            return;
        }
        for id in self.tunnels.keys().copied().collect::<Vec<_>>() {
            self.reset_tunnel(id);
        }
        self.indices = IndexTable::new();
        self.shared.release_all();
        self.gate = Gate::new();
        self.identity = key.clone().map(Identity::new);
        self.shared.identity.store(self.identity.clone());
        let public = self.identity.as_ref().map(|identity| identity.public());
        self.key = key;
        self.magic.set_node_key(public, self.clocks.now);
    }

    fn set_network(&mut self, network: Option<Arc<Network>>) {
        let nothing = || Network {
            peers: Some(Vec::new()),
            ..Network::default()
        };
        let network = network.map_or_else(nothing, Arc::unwrap_or_clone);
        if let Some(peers) = network.peers {
            self.set_peers(peers);
        }
        // With a device they are the host's, and the stack's packets to them must get there.
        if self.host.is_none() {
            self.stack.net.set_addresses(&network.self_addresses);
        }
        self.guard.own.clone_from(&network.self_addresses);
        self.self_addresses = network.self_addresses;
        self.set_firewall(network.firewall);
        self.guard.peerapi_v4 = network.peerapi_port_v4;
        self.guard.peerapi_v6 = network.peerapi_port_v6;
        self.outdate_guard();
        self.effects.push(Effect::Avoid(network.avoid));
        self.magic.set_derp_map(network.derp_map, self.clocks.now);
    }

    fn set_firewall(&mut self, firewall: Firewall) {
        self.guard.filter = firewall.filter;
        self.guard.jailed = firewall.jailed;
        self.guard.caps = firewall.caps;
        self.outdate_guard();
    }

    fn set_peers(&mut self, peers: Vec<Arc<PeerConfig>>) {
        let keep: BTreeSet<PeerId> = peers.iter().map(|peer| peer.id).collect();
        let mut gone = self.shared.peer_ids();
        gone.retain(|id| !keep.contains(id));
        for id in gone {
            self.remove_peer(id);
        }
        for peer in peers {
            self.upsert_peer(peer);
        }
    }

    fn upsert_peer(&mut self, peer: Arc<PeerConfig>) {
        let id = peer.id;
        self.magic.upsert_peer(&peer);
        if self.shared.change_table(|table| table.upsert(peer)) {
            self.reset_tunnel(id);
        }
    }

    fn remove_peer(&mut self, id: PeerId) {
        self.shared.change_table(|table| table.remove(id));
        self.magic.remove_peer(id);
        self.reset_tunnel(id);
    }

    fn ping(&mut self, request: PingRequest, reply: PingReply) {
        let now = self.clocks.now;
        let token = match request.kind {
            PingKind::Disco => {
                let id = self.next_ping_id();
                self.pings.insert(Token::Disco(id), reply, now);
                let (peer, size) = (request.peer, request.size);
                self.magic
                    .ping(id, peer, PingScope::All, size, now, &mut *self.rng);
                return;
            }
            PingKind::Tsmp => {
                let mut data = [0; 8];
                self.rng.fill_bytes(&mut data);
                Token::Tsmp(data)
            }
            PingKind::Icmp => Token::Icmp {
                from: request.address,
                id: self.rng.next_u32() as u16,
                seq: self.rng.next_u32() as u16,
            },
        };
        match self.tunnel_ping(request.peer, request.address, token) {
            Ok(packet) => {
                self.pings.insert(token, reply, now);
                self.send_to_peer(request.peer, &packet);
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn tunnel_ping(&self, peer: PeerId, to: IpAddr, token: Token) -> Result<Vec<u8>, PingError> {
        if self.identity.is_none() {
            return Err(PingError::Stopped);
        }
        self.shared.config(peer).ok_or(PingError::NoSuchPeer)?;
        let from = self.self_address_like(to).ok_or(PingError::NoSelfAddress)?;
        let packet = match token {
            Token::Icmp { id, seq, .. } => {
                let echo = Echo {
                    reply: false,
                    id,
                    seq,
                    data: b"",
                };
                echo.packet(from, to)
            }
            Token::Tsmp(data) => tsmp::Message::Ping(data).packet(from, to),
            Token::Disco(_) => None,
        };
        packet.ok_or(PingError::NoSelfAddress)
    }

    fn status(&self) -> EngineStatus {
        let now = self.clocks.now;
        let mut peers = BTreeMap::new();
        for id in self.shared.peer_ids() {
            let Some(config) = self.shared.config(id) else {
                continue;
            };
            let mut status = PeerStatus::default();
            if let Some(view) = self.magic.peer_view(id, now) {
                status.last_write = view.last_send.map(|at| self.wall_of(at));
                status.active = view.active;
                status.cur_addr = view.last_send.and(view.direct);
            }
            if let Some(tunnel) = self.tunnels.get(&id) {
                status.rx_bytes = tunnel.cell.rx_bytes.load(Ordering::Relaxed);
                status.tx_bytes = tunnel.cell.tx_bytes.load(Ordering::Relaxed);
                status.last_handshake = tunnel.peer.last_handshake();
                status.in_engine = true;
            }
            if status.in_engine || status.last_write.is_some() {
                peers.insert(config.key, status);
            }
        }
        EngineStatus {
            peers,
            derps: self.relays.status(),
            home_derp: self.magic.home(),
            endpoints: self.magic.endpoints().iter().map(|e| e.addr).collect(),
        }
    }

    fn wall_of(&self, at: Instant) -> Wall {
        let ago = self.clocks.now.since(at).as_nanos();
        let ago = i128::try_from(ago).unwrap_or(i128::MAX);
        Wall::from_unix_nanos(self.clocks.wall.as_unix_nanos().saturating_sub(ago))
    }
}
