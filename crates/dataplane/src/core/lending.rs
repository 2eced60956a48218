//! What the workers are shown: sessions, ways to peers, what may pass.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use host::Instant;
use magicsock::{PingId, PingScope, Route};
use packet::PeerId;

use super::fit::{Ask, Fit};
use super::{Core, Effect};
use crate::mailbox::{Accepted, Decrypted, Poke};
use crate::shared::{Lent, Way};

impl Core {
    /// A worker has noticed something.
    pub(crate) fn handle_poke(&mut self, poke: Poke) {
        let now = self.clocks.now;
        match poke {
            Poke::Sent(peer) => {
                self.with_tunnel(peer, |tunnel, ctx| tunnel.peer.handle_activity(ctx));
                self.after(peer);
            }
            Poke::Received(peer, index) => {
                self.with_tunnel(peer, |tunnel, ctx| tunnel.peer.handle_received(index, ctx));
                self.after(peer);
            }
            Poke::Renew(peer) => {
                if let Some(route) = self.magic.route(peer, now) {
                    self.lend(peer, &route);
                }
            }
            Poke::Unreachable(addr) => self.magic.handle_unreachable(addr),
        }
        self.drain_magic();
    }

    /// Packets out of tunnels that a worker did not know what to do with.
    pub(crate) fn handle_decrypted(&mut self, mut decrypted: Decrypted) {
        let Decrypted { bytes, packets } = &mut decrypted;
        for (peer, range) in packets {
            if let Some(packet) = bytes.get_mut(range.clone()) {
                self.unmask(*peer, packet);
                self.receive(*peer, packet);
            }
        }
        self.drain_magic();
    }

    /// Packets that a worker has let in, for our own stack.
    pub(crate) fn handle_accepted(&mut self, accepted: &Accepted) {
        let now = self.clocks.now;
        for (range, is_verified) in &accepted.runs {
            let Some(packet) = accepted.bytes.get(range.clone()) else {
                continue;
            };
            match is_verified {
                true => self.stack.net.handle_verified(packet, now),
                false => self.stack.net.handle_packet(packet, now),
            }
        }
    }

    /// Lends the way to a peer to the workers, where there is just one.
    pub(super) fn lend(&mut self, peer: PeerId, route: &Route) {
        let now = self.clocks.now;
        let Some(tunnel) = self.tunnels.get(&peer) else {
            return;
        };
        let lent = way_of(route).map(|way| Arc::new(Lent::new(way, now)));
        match lent.is_some() {
            true => drop(self.borrowers.insert(peer)),
            false => drop(self.borrowers.remove(&peer)),
        }
        let way = lent.as_ref().map(|lent| lent.way);
        tunnel.cell.lent.store(lent);
        self.review_mtu(peer, way);
    }

    /// What the way carries is looked at again and again while it is used.
    fn review_mtu(&mut self, peer: PeerId, way: Option<Way>) {
        let now = self.clocks.now;
        let mtu = self.mtu;
        let Some(tunnel) = self.tunnels.get_mut(&peer) else {
            return;
        };
        let Some(Way::Direct(to)) = way else {
            // A relay takes all.
            tunnel.fit = None;
            return tunnel.cell.inner_mtu.store(0, Ordering::Relaxed);
        };
        let fit = tunnel.fit.take_if(|fit| fit.to() == to);
        let mut fit = fit.unwrap_or_else(|| Fit::new(to, mtu, now));
        let ask = fit.poll(now);
        tunnel.fit = Some(fit);
        match ask {
            Some(Ask::Kernel) => self.effects.push(Effect::AskMtu { peer, to }),
            Some(Ask::Ping(size)) if self.fits_packets => {
                let id = self.next_ping_id();
                if let Some(fit) = self
                    .tunnels
                    .get_mut(&peer)
                    .and_then(|tunnel| tunnel.fit.as_mut())
                {
                    fit.sent(id, now);
                }
                let scope = PingScope::Paths;
                self.magic.ping(id, peer, scope, size, now, &mut *self.rng);
            }
            Some(Ask::Ping(_)) | None => {}
        }
        self.show_limit(peer);
        self.rearm(peer);
    }

    /// Goes on with the search for what a way carries.
    pub(super) fn fit_if_due(&mut self, peer: PeerId) {
        let now = self.clocks.now;
        let fit = self
            .tunnels
            .get(&peer)
            .and_then(|tunnel| tunnel.fit.as_ref());
        let due = fit.filter(|fit| fit.next_timeout().is_some_and(|at| at <= now));
        if let Some(way) = due.map(|fit| Way::Direct(fit.to())) {
            self.review_mtu(peer, Some(way));
        }
    }

    /// What the kernel says that the way to a peer's address carries.
    pub(crate) fn handle_path_mtu(&mut self, peer: PeerId, to: SocketAddr, mtu: usize) {
        let fit = self
            .tunnels
            .get_mut(&peer)
            .and_then(|tunnel| tunnel.fit.as_mut());
        if let Some(fit) = fit.filter(|fit| fit.to() == to) {
            fit.heard(mtu);
            self.show_limit(peer);
        }
    }

    /// A ping has come back; says whether it was one of those that measure.
    pub(super) fn note_measured(&mut self, id: PingId, by: SocketAddr) -> bool {
        let now = self.clocks.now;
        let measured = self.tunnels.iter_mut().find_map(|(peer, tunnel)| {
            let fit = tunnel.fit.as_mut()?;
            fit.answered(id, by, now).then(|| (*peer, fit.is_hole()))
        });
        let Some((peer, is_hole)) = measured else {
            return false;
        };
        if is_hole {
            // What cannot be told to its sender must be cut on its way.
            self.effects.push(Effect::AllowFragments);
        }
        self.show_limit(peer);
        self.rearm(peer);
        true
    }

    fn show_limit(&self, peer: PeerId) {
        let Some(tunnel) = self.tunnels.get(&peer) else {
            return;
        };
        let limit = tunnel.fit.as_ref().map_or(0, Fit::limit);
        if tunnel.cell.inner_mtu.swap(limit, Ordering::Relaxed) != limit {
            tracing::debug!(
                "packets to peer {} may have {limit} bytes (0 is all)",
                peer.0
            );
        }
    }

    /// Takes back what was lent where the path machine thinks otherwise by now, or nobody used it.
    pub(super) fn review_lent(&mut self) {
        let now = self.clocks.now;
        let (tunnels, magic) = (&self.tunnels, &self.magic);
        self.borrowers.retain(|peer| {
            let Some(tunnel) = tunnels.get(peer) else {
                return false;
            };
            let lent = tunnel.cell.lent.load();
            let Some(lent) = lent.as_ref() else {
                return false;
            };
            let still = magic
                .peek_route(*peer, now)
                .and_then(|route| way_of(&route))
                == Some(lent.way);
            let keep = still && now < lent.until;
            if !keep {
                tunnel.cell.lent.store(None);
            }
            keep
        });
    }

    /// Shows the workers which sessions there are.
    pub(super) fn show_sessions(&mut self) {
        while let Some(index) = self.indices.poll_change() {
            let Some(session) = self.indices.session(index) else {
                self.shared.release(index);
                continue;
            };
            let peer = self.magic.peer_id(&session.peer());
            if let Some(tunnel) = peer.and_then(|peer| self.tunnels.get(&peer)) {
                self.shared.bind(session, &tunnel.cell);
            }
        }
    }

    /// Shows the workers what to seal with for a peer, and when we look at its timers.
    pub(super) fn show_tunnel(&mut self, peer: PeerId) {
        self.show_sessions();
        let now = self.clocks.now;
        let Some(tunnel) = self.tunnels.get(&peer) else {
            return;
        };
        let session = tunnel.peer.session(now);
        let shown = tunnel.cell.session.load();
        let same = match (session, shown.as_ref()) {
            (Some(new), Some(old)) => Arc::ptr_eq(new, old),
            (None, None) => true,
            _ => false,
        };
        if !same {
            tunnel.cell.session.store(session.cloned());
        }
        let timer = tunnel.timer.map_or(u64::MAX, Instant::as_nanos);
        tunnel.cell.timer.store(timer, Ordering::Relaxed);
    }

    /// Tells the path machine from whom data came straight while only workers saw it.
    pub(super) fn note_data_seen(&mut self) {
        for (peer, tunnel) in &mut self.tunnels {
            let at = tunnel.cell.direct_data.load(Ordering::Relaxed);
            if at > tunnel.data_told {
                tunnel.data_told = at;
                self.magic.note_direct_data(*peer, Instant::from_nanos(at));
            }
        }
    }

    /// What may pass has changed.
    pub(super) fn outdate_guard(&mut self) {
        self.is_guard_stale = true;
    }

    pub(super) fn publish_guard(&mut self) {
        let awaits = self.pings.awaits_echo();
        self.shared.awaits_echo.store(awaits, Ordering::Relaxed);
        if std::mem::take(&mut self.is_guard_stale) {
            self.shared.guard.store(Arc::new(self.guard.clone()));
            self.shared.outdate();
        }
    }
}

/// A way that workers can use. While a path is being tried, everything goes twice, and that the engine does.
fn way_of(route: &Route) -> Option<Way> {
    match (route.direct, &route.relay) {
        (Some(to), None) => Some(Way::Direct(to)),
        (None, Some(relay)) => Some(Way::Relay {
            link: relay.link,
            to: relay.to,
        }),
        _ => None,
    }
}
