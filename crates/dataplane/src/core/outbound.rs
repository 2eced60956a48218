//! From packets to frames and datagrams: routes, sessions, sealing straight into what is sent next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use host::Ecn;
use keys::NodePublic;
use magicsock::{LinkId, RelayRoute, Route};
use metrics::{DropReason, Path};
use packet::ecn;
use packet::nat::{self, End};
use packet::tsmp;
use packet::{IpView, PeerId};
use wireguard::{Output, SealError, Session, padded_len, sealed_len};

use super::direct::path_of;
use super::{Core, Effect};
use crate::link::Batch;

impl Core {
    /// Sends an IP packet to whoever its destination is routed to.
    pub(super) fn send_ip(&mut self, packet: &[u8]) {
        let Ok(view) = IpView::parse(packet) else {
            return self.drop_out(1);
        };
        match self.shared.route(view.dst()) {
            Some(peer) => self.send_to_peer(peer, packet),
            None => self.drop_out(1),
        }
    }

    /// Sends a packet through a peer's tunnel, or lets it wait for one.
    pub(super) fn send_to_peer(&mut self, peer: PeerId, packet: &[u8]) {
        let now = self.clocks.now;
        let Some(tunnel) = self.ensure_tunnel(peer) else {
            return self.drop_out(1);
        };
        if let Some(session) = tunnel.peer.session(now).cloned() {
            self.seal(peer, &session, packet);
            return;
        }
        let dropped = tunnel.park(packet);
        self.drop_out(dropped);
        self.with_tunnel(peer, |tunnel, ctx| tunnel.peer.want_session(ctx));
        self.after(peer);
    }

    /// Seals a packet into what is sent next by the ways that lead to the peer.
    fn seal(&mut self, peer: PeerId, session: &Arc<Session>, packet: &[u8]) {
        let now = self.clocks.now;
        let masked = self.masked(peer, packet);
        let packet = masked.as_deref().unwrap_or(packet);
        let Some(route) = self.magic.route(peer, now) else {
            return self.drop_out(1);
        };
        self.lend(peer, &route);
        let sealed = match (route.relay, route.direct) {
            (Some(relay), direct) => self.seal_for_relay(relay, direct, session, packet),
            (None, Some(to)) => self.seal_direct(to, session, packet),
            (None, None) => return self.drop_out(1),
        };
        match sealed {
            Ok((len, look)) => {
                self.note_tx(peer, &route, len);
                if look {
                    self.with_tunnel(peer, |tunnel, ctx| tunnel.peer.handle_activity(ctx));
                    self.after(peer);
                }
            }
            Err(error) => {
                tracing::trace!("to peer {}: {error}", peer.0);
                self.drop_out(1);
            }
        }
    }

    /// A packet of ours as a peer wants to see it that knows us by another address; `None` leaves it as it is.
    fn masked(&self, peer: PeerId, packet: &[u8]) -> Option<Vec<u8>> {
        let masquerade = self.shared.masquerade(peer)?;
        let src = IpView::parse(packet).ok()?.src();
        let mask = masquerade.of(src)?;
        // What we only forward is not ours.
        (self.self_address_like(src)? == src).then_some(())?;
        let mut masked = packet.to_vec();
        nat::set_address(&mut masked, End::Source, mask).then_some(masked)
    }

    /// The other way round, in place.
    pub(super) fn unmask(&self, peer: PeerId, packet: &mut [u8]) {
        let Some(masquerade) = self.shared.masquerade(peer) else {
            return;
        };
        let Ok(dst) = IpView::parse(packet).map(|view| view.dst()) else {
            return;
        };
        if masquerade.of(dst) == Some(dst)
            && let Some(own) = self.self_address_like(dst)
        {
            nat::set_address(packet, End::Destination, own);
        }
    }

    fn seal_direct(
        &mut self,
        to: SocketAddr,
        session: &Session,
        packet: &[u8],
    ) -> Result<(usize, bool), SealError> {
        let now = self.clocks.now;
        let padded = padded_len(packet.len(), self.mtu);
        let len = sealed_len(padded);
        let counter = session.reserve(now, 1)?.next();
        let counter = counter.ok_or(SealError::CountersUsedUp)?;
        session.seal_at(counter, packet, padded, self.outgoing.room(len))?;
        self.outgoing.finish(to, Ecn(ecn::of(packet)), len);
        self.flush_direct_if_full();
        Ok((len, session.note_sent(now, !packet.is_empty())))
    }

    /// Seals into a relay's batch, and sends a copy straight to where the peer may be as well. The peer drops what comes
    /// twice.
    fn seal_for_relay(
        &mut self,
        relay: RelayRoute,
        direct: Option<SocketAddr>,
        session: &Session,
        packet: &[u8],
    ) -> Result<(usize, bool), SealError> {
        let (now, mtu) = (self.clocks.now, self.mtu);
        let batch = self.batch(relay.link);
        let frame = batch.begin(&relay.to);
        let start = batch.frames.len();
        match session.seal(now, packet, mtu, &mut batch.frames) {
            Ok(look) => {
                let len = batch.finish(frame);
                if let Some(to) = direct
                    && let Some(batch) = self.sends.get(&relay.link)
                    && let Some(copy) = batch.frames.get(start..)
                {
                    self.outgoing.push(to, copy);
                    self.flush_direct_if_full();
                }
                self.push_if_full(relay.link);
                Ok((len, look))
            }
            Err(error) => {
                batch.abandon(frame);
                Err(error)
            }
        }
    }

    /// Sends a WireGuard message that is ready.
    pub(super) fn send_datagram(&mut self, peer: PeerId, datagram: &[u8]) {
        let Some(route) = self.magic.route(peer, self.clocks.now) else {
            return self.drop_out(1);
        };
        if let Some(to) = route.direct {
            self.send_direct(to, datagram);
        }
        if let Some(relay) = route.relay {
            self.send_frame(relay.link, &relay.to, datagram);
        }
        self.note_tx(peer, &route, datagram.len());
    }

    pub(super) fn send_frame(&mut self, link: LinkId, to: &NodePublic, datagram: &[u8]) {
        let batch = self.batch(link);
        let frame = batch.begin(to);
        batch.frames.extend_from_slice(datagram);
        batch.finish(frame);
        self.push_if_full(link);
    }

    fn batch(&mut self, link: LinkId) -> &mut Batch {
        let like = self.last_batch_len;
        self.sends.entry(link).or_insert_with(|| Batch::like(like))
    }

    fn push_if_full(&mut self, link: LinkId) {
        if self.sends.get(&link).is_some_and(|batch| batch.is_full())
            && let Some(batch) = self.sends.remove(&link)
        {
            self.push(link, batch);
        }
    }

    pub(super) fn push(&mut self, link: LinkId, batch: Batch) {
        self.last_batch_len = batch.frames.len();
        self.effects.push(Effect::Push { link, batch });
    }

    /// A packet that goes by two ways counts on both, as the originals count, but once for the peer.
    fn note_tx(&mut self, peer: PeerId, route: &Route, len: usize) {
        let outbound = &self.metrics.outbound;
        if route.relay.is_some() {
            outbound.count(Path::Derp, 1, len as u64);
        }
        if let Some(to) = route.direct {
            outbound.count(path_of(to), 1, len as u64);
        }
        if let Some(tunnel) = self.tunnels.get_mut(&peer) {
            tunnel
                .cell
                .tx_bytes
                .fetch_add(len as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn drop_out(&self, packets: u64) {
        self.metrics
            .outbound
            .count_dropped(DropReason::Error, packets);
    }

    /// Does what a tunnel's WireGuard asks for, and sets its timer.
    pub(super) fn after(&mut self, peer: PeerId) {
        let now = self.clocks.now;
        loop {
            let Some(tunnel) = self.tunnels.get_mut(&peer) else {
                return;
            };
            match tunnel.peer.poll_output(now) {
                Some(Output::Handshake(datagram)) => {
                    self.send_datagram(peer, &datagram);
                    self.knocked(peer);
                }
                Some(Output::Keepalive(datagram)) => self.send_datagram(peer, &datagram),
                Some(Output::Established) => self.established(peer),
                Some(Output::GaveUp) => {
                    tunnel.restarts = 0;
                    let lost = tunnel.take_parked().len();
                    self.drop_out(lost as u64);
                }
                Some(Output::Idle) => return self.reset_tunnel(peer),
                None => break,
            }
        }
        self.probe_if_due(peer);
        self.fit_if_due(peer);
        self.rearm(peer);
        self.show_tunnel(peer);
    }

    /// A new session: our disco key goes first, so that a peer which cannot reach control finds us after a restart; then
    /// what waited.
    fn established(&mut self, peer: PeerId) {
        let now = self.clocks.now;
        let Some(tunnel) = self.tunnels.get_mut(&peer) else {
            return;
        };
        let Some(session) = tunnel.peer.session(now).cloned() else {
            return;
        };
        tunnel.restarts = 0;
        let parked = tunnel.take_parked();
        if let Some(advertisement) = self.advertisement(peer) {
            self.seal(peer, &session, &advertisement);
        }
        for packet in parked {
            self.seal(peer, &session, &packet);
        }
    }

    fn advertisement(&self, peer: PeerId) -> Option<Vec<u8>> {
        let to = *self.shared.config(peer)?.addresses.first()?;
        let from = self.self_address_like(to)?;
        tsmp::Message::DiscoKey(self.magic.disco_key()).packet(from, to)
    }

    pub(super) fn rearm(&mut self, peer: PeerId) {
        let Some(tunnel) = self.tunnels.get_mut(&peer) else {
            return;
        };
        let next = tunnel.next_timeout();
        if tunnel.timer == next {
            return;
        }
        if let Some(old) = std::mem::replace(&mut tunnel.timer, next) {
            self.timers.remove(&(old, peer));
        }
        if let Some(next) = next {
            self.timers.insert((next, peer));
        }
    }
}
