//! What the workers are shown: sessions, ways to peers, what may pass.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use host::Instant;
use magicsock::Route;
use packet::PeerId;
use wireguard::sealed_len;

use super::{Core, Effect};
use crate::mailbox::{Accepted, Decrypted, Poke};
use crate::shared::{Lent, Way};

/// How often it is looked at what a way carries, while it is used.
const ASK_MTU_EVERY: Duration = Duration::from_secs(1);
const UDP_HEADER: usize = 8;
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
/// Nobody carries less (RFC 791: 576 bytes, with room for the headers around); who says so is not believed.
const LEAST_MTU: usize = 496;

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

    /// What the way carries is looked at again and again while it is used: routers tell when they must, and the kernel forgets.
    fn review_mtu(&mut self, peer: PeerId, way: Option<Way>) {
        let now = self.clocks.now;
        let Some(tunnel) = self.tunnels.get_mut(&peer) else {
            return;
        };
        let Some(Way::Direct(to)) = way else {
            tunnel.mtu_asked = None;
            // A relay takes all.
            return tunnel.cell.inner_mtu.store(0, Ordering::Relaxed);
        };
        let known = tunnel.mtu_asked.filter(|(asked, _)| *asked == to);
        if known.is_none_or(|(_, at)| now.since(at) >= ASK_MTU_EVERY) {
            tunnel.mtu_asked = Some((to, now));
            self.effects.push(Effect::AskMtu { peer, to });
        }
    }

    /// What the way to a peer's address carries.
    pub(crate) fn handle_path_mtu(&mut self, peer: PeerId, to: SocketAddr, mtu: usize) {
        let Some(tunnel) = self.tunnels.get(&peer) else {
            return;
        };
        if tunnel.mtu_asked.is_none_or(|(asked, _)| asked != to) {
            return;
        }
        let inner = inner_mtu(mtu, to.is_ipv6());
        let limit = if inner >= self.mtu { 0 } else { inner };
        if tunnel.cell.inner_mtu.swap(limit, Ordering::Relaxed) != limit {
            tracing::debug!(
                "packets to peer {} may have {inner} bytes: {to} takes {mtu}",
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

/// The longest packet in a tunnel whose datagrams may be so long, headers included.
fn inner_mtu(outer: usize, v6: bool) -> usize {
    let around = UDP_HEADER + if v6 { V6_HEADER } else { V4_HEADER } + sealed_len(0);
    // Packets are sealed in steps of sixteen bytes.
    (outer.saturating_sub(around) & !15).max(LEAST_MTU)
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
