//! From a relay's frames to the host: sessions, sources, what the engine answers itself, the filter.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use filter::Verdict;
use keys::NodePublic;
use magicsock::LinkId;
use metrics::{DropReason, Path};
use packet::disco;
use packet::icmp::Echo;
use packet::tsmp::{self, Reject, RejectReason};
use packet::{IpView, PeerId, Proto};
use wireguard::{Admit, Identity, Message, Opening, Session, Source, classify};

use super::Core;
use super::guard::label;
use super::pings::Token;
use super::table::may_send_from;
use crate::EngineEvent;
use crate::link::Packets;

impl Core {
    /// Takes the packets of one read. Neighbours of one sender and session share all lookups.
    pub(crate) fn handle_packets(&mut self, link: LinkId, mut packets: Packets) {
        let Packets {
            bytes,
            packets: all,
            ..
        } = &mut packets;
        let mut rest = all.as_slice();
        while let Some((src, _)) = rest.first() {
            let len = rest.iter().take_while(|(other, _)| other == src).count();
            let (run, behind) = rest.split_at(len);
            rest = behind;
            if let Some(peer) = self.magic.heard(link, src) {
                self.handle_run(link, peer, src, bytes, run);
            }
        }
    }

    /// Packets of one sender.
    fn handle_run(
        &mut self,
        link: LinkId,
        peer: PeerId,
        src: &NodePublic,
        bytes: &mut [u8],
        run: &[(NodePublic, Range<usize>)],
    ) {
        let mut data: Vec<Range<usize>> = Vec::new();
        let mut session: Option<Arc<Session>> = None;
        for (_, range) in run {
            let Some(datagram) = bytes.get(range.clone()) else {
                continue;
            };
            if disco::looks_like(datagram) {
                let now = self.clocks.now;
                self.magic
                    .handle_disco(link, src, datagram, now, &mut *self.rng);
                continue;
            }
            self.metrics
                .inbound
                .count(Path::Derp, 1, datagram.len() as u64);
            match classify(datagram) {
                Ok(Message::Data { receiver, .. }) => {
                    let same = session
                        .as_ref()
                        .is_some_and(|s| s.local_index() == receiver);
                    if !same {
                        self.handle_data(peer, session.take(), bytes, &mut data);
                        // A relay vouches for the sender, so a session is used by its own peer only.
                        let found = self.indices.session(receiver);
                        session = found.filter(|s| s.peer() == *src).cloned();
                    }
                    data.push(range.clone());
                }
                Ok(message) => self.handle_handshake(Source::Relay(*src), &message, false),
                Err(error) => tracing::trace!("from {src}: {error}"),
            }
        }
        self.handle_data(peer, session, bytes, &mut data);
    }

    /// Data of one session. Says whether any of it was authentic and new.
    pub(super) fn handle_data(
        &mut self,
        peer: PeerId,
        session: Option<Arc<Session>>,
        bytes: &mut [u8],
        data: &mut Vec<Range<usize>>,
    ) -> bool {
        let Some(session) = session else {
            data.clear();
            return false;
        };
        let now = self.clocks.now;
        let mut opened: Vec<Opening> = Vec::with_capacity(data.len());
        if let Err(error) = session.open_batch(now, bytes, data, &mut opened) {
            tracing::trace!("data from peer {}: {error}", peer.0);
        }
        for opening in &opened {
            if let Some(datagram) = data.get(opening.index) {
                self.note_rx(peer, datagram.len());
            }
        }
        data.clear();
        session.accept_batch(&mut opened);
        if opened.is_empty() {
            return false;
        }
        let any_data = opened.iter().any(|opening| !opening.plaintext.is_empty());
        // A new session must be in use before its first packets can cause answers.
        if session.note_received(now, any_data) {
            let index = session.local_index();
            self.with_tunnel(peer, |tunnel, ctx| tunnel.peer.handle_received(index, ctx));
            self.after(peer);
        }
        for opening in opened {
            if let Some(packet) = bytes.get_mut(opening.plaintext) {
                self.unmask(peer, packet);
                self.receive(peer, packet);
            }
        }
        true
    }

    /// A handshake message. Where it came from only matters for who may be asked to prove its address: whose it is, the
    /// message itself says, and if a relay says so too, they must agree. One that was admitted has been through a worker's gate.
    pub(super) fn handle_handshake(
        &mut self,
        source: Source,
        message: &Message<'_>,
        admitted: bool,
    ) {
        let Some(identity) = self.identity.clone() else {
            return;
        };
        if !admitted && !self.admit(&identity, source, message) {
            return;
        }
        let mut opened = None;
        let key = match message {
            Message::Initiation(initiation) => match identity.open_initiation(initiation) {
                Ok(initiation) => opened.insert(initiation).peer,
                Err(error) => return tracing::trace!("initiation from {source:?}: {error}"),
            },
            Message::Response(response) => match self.indices.get(response.receiver()) {
                Some(slot) => slot.peer,
                None => return,
            },
            Message::CookieReply(reply) => match self.indices.get(reply.receiver()) {
                Some(slot) => slot.peer,
                None => return,
            },
            Message::Data { .. } => return,
        };
        if matches!(source, Source::Relay(src) if src != key) {
            return;
        }
        let Some(peer) = self.magic.peer_id(&key) else {
            return;
        };
        if opened.is_some() && self.ensure_tunnel(peer).is_none() {
            return;
        }
        let result = self.with_tunnel(peer, |tunnel, ctx| match (message, opened) {
            (Message::Initiation(_), Some(opened)) => tunnel.peer.handle_initiation(opened, ctx),
            (Message::Response(response), _) => tunnel.peer.handle_response(response, ctx),
            (Message::CookieReply(reply), _) => tunnel.peer.handle_cookie_reply(reply, ctx.now),
            _ => Ok(()),
        });
        match result {
            Some(Ok(())) => self.note_rx(peer, handshake_len(message)),
            Some(Err(error)) => tracing::trace!("handshake with {key}: {error}"),
            None => {}
        }
        self.after(peer);
    }

    fn admit(&mut self, identity: &Identity, source: Source, message: &Message<'_>) -> bool {
        let now = self.clocks.now;
        match self
            .gate
            .admit(identity, message, source, now, &mut *self.rng)
        {
            Admit::Proceed => true,
            Admit::Drop => false,
            Admit::Challenge(reply) => {
                self.challenge(source, &reply);
                false
            }
        }
    }

    /// Asks a sender for a proof of its address, there.
    fn challenge(&mut self, source: Source, reply: &[u8]) {
        match source {
            Source::Udp(addr) => self.send_direct(addr, reply),
            Source::Relay(key) => {
                if let Some(peer) = self.magic.peer_id(&key) {
                    self.send_datagram(peer, reply);
                }
            }
        }
    }

    fn note_rx(&mut self, peer: PeerId, len: usize) {
        if let Some(tunnel) = self.tunnels.get_mut(&peer) {
            tunnel
                .cell
                .rx_bytes
                .fetch_add(len as u64, Ordering::Relaxed);
        }
    }

    /// A packet that came out of a peer's tunnel.
    pub(super) fn receive(&mut self, peer: PeerId, packet: &[u8]) {
        let view = match IpView::parse(packet) {
            Ok(view) => view,
            Err(unparsed) => {
                if let Verdict::Drop(reason) = Verdict::from(unparsed) {
                    self.drop_in(label(reason));
                }
                return;
            }
        };
        let Some(config) = self.shared.config(peer) else {
            return;
        };
        let jailed = config.jailed;
        if !may_send_from(&config, view.src()) {
            return tracing::trace!("peer {} may not send from {}", peer.0, view.src());
        }
        if self.handle_tsmp(peer, &view) || self.is_awaited_echo(&view) || self.is_own_disco(&view)
        {
            return;
        }
        match self.guard.judge_in(&view, jailed) {
            Verdict::Accept => self.deliver(&view),
            Verdict::Drop(reason) => {
                self.drop_in(label(reason));
                let shields_up = self.guard.is_shields_up(jailed);
                self.refuse(&view, shields_up);
            }
        }
    }

    /// TSMP that is for the engine. Pongs and rejects go on to the filter.
    fn handle_tsmp(&mut self, peer: PeerId, view: &IpView<'_>) -> bool {
        match tsmp::Message::parse(view) {
            Some(tsmp::Message::Ping(data)) => {
                let pong = tsmp::Message::Pong {
                    data,
                    peer_api_port: self.guard.peerapi_port(view.dst()),
                };
                if let Some(packet) = pong.packet(view.dst(), view.src()) {
                    self.send_ip(&packet);
                }
                true
            }
            Some(tsmp::Message::DiscoKey(key)) => {
                if !key.is_zero() {
                    self.magic.handle_advertised(peer, key);
                    self.event(EngineEvent::DiscoAdvertised { peer, key });
                }
                true
            }
            Some(tsmp::Message::Pong {
                data,
                peer_api_port,
            }) => {
                let now = self.clocks.now;
                self.pings.answered(Token::Tsmp(data), peer_api_port, now);
                false
            }
            Some(tsmp::Message::Reject(reject)) => {
                tracing::debug!(
                    "open-conn-track: flow {} {} > {} rejected due to {}",
                    reject.proto,
                    reject.src,
                    reject.dst,
                    reject.reason
                );
                false
            }
            None => false,
        }
    }

    fn is_awaited_echo(&mut self, view: &IpView<'_>) -> bool {
        let Some(echo) = Echo::parse(view).filter(|echo| echo.reply) else {
            return false;
        };
        let token = Token::Icmp {
            from: view.src(),
            id: echo.id,
            seq: echo.seq,
        };
        self.pings.answered(token, 0, self.clocks.now)
    }

    /// Our own disco inside the tunnel would be a loop.
    pub(super) fn is_own_disco(&self, view: &IpView<'_>) -> bool {
        view.is(Proto::UDP)
            && disco::Envelope::parse(view.payload())
                .is_some_and(|envelope| envelope.sender == self.magic.disco_key())
    }

    /// Tells the opener of a refused connection, so that it need not wait for its timeout.
    ///
    /// Compat: only for IPv4 TCP, and for anything with SYN, as the originals.
    fn refuse(&mut self, view: &IpView<'_>, shields_up: bool) {
        let syn = view.tcp_flags().has(packet::TcpFlags::SYN);
        if !view.src().is_ipv4() || !view.is(Proto::TCP) || !syn {
            return;
        }
        let reason = if shields_up {
            RejectReason::SHIELDS_UP
        } else {
            RejectReason::ACL
        };
        if let Some(packet) = Reject::of(view, reason).packet() {
            self.send_ip(&packet);
        }
    }

    fn drop_in(&self, reason: DropReason) {
        self.metrics.inbound.count_dropped(reason, 1);
    }

    /// Hands a packet to the host, or to our own stack.
    fn deliver(&mut self, view: &IpView<'_>) {
        if self.host.is_some() && !self.guard.is_peerapi(view) {
            self.give_host(view.bytes());
        } else {
            self.stack.net.handle_packet(view.bytes(), self.clocks.now);
        }
    }
}

fn handshake_len(message: &Message<'_>) -> usize {
    match message {
        Message::Initiation(initiation) => initiation.bytes().len(),
        Message::Response(response) => response.bytes().len(),
        Message::CookieReply(_) | Message::Data { .. } => 0,
    }
}
