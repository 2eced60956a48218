//! Handshakes with peers that may be away.
//!
//! WireGuard asks again after 5 s. A peer that has just started, or is about to, would be kept waiting that long although it
//! could answer at once. So while a handshake waits, the peer is pinged outside of the tunnel; its pong tells that it is
//! there and knows us, and the handshake starts afresh.

use std::time::Duration;

use magicsock::{PingId, PingScope};
use packet::PeerId;
use wireguard::State;

use super::Core;
use super::tunnel::Knocking;

/// How often a peer is pinged that has not answered our handshake.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// An initiation younger than this may still be on its way.
const ON_ITS_WAY: Duration = Duration::from_millis(300);
/// A peer that answers pings but no handshake is left to WireGuard's own pace after so many fresh starts.
const MAX_RESTARTS: u8 = 3;

impl Core {
    /// An initiation was sent.
    pub(super) fn knocked(&mut self, peer: PeerId) {
        let now = self.clocks.now;
        if let Some(tunnel) = self.tunnels.get_mut(&peer)
            && tunnel.peer.state() == State::Handshake
            && tunnel.restarts < MAX_RESTARTS
        {
            tunnel.knocking = Some(Knocking {
                since: now,
                probe_at: now + PROBE_EVERY,
            });
        }
    }

    /// Pings the peer if that is due.
    pub(super) fn probe_if_due(&mut self, peer: PeerId) {
        let now = self.clocks.now;
        let Some(tunnel) = self.tunnels.get_mut(&peer) else {
            return;
        };
        if tunnel.peer.state() != State::Handshake {
            tunnel.knocking = None;
        }
        let Some(knocking) = &mut tunnel.knocking else {
            return;
        };
        if now < knocking.probe_at {
            return;
        }
        knocking.probe_at = now + PROBE_EVERY;
        let id = self.next_ping_id();
        self.probes.insert(id, peer);
        self.magic
            .ping(id, peer, PingScope::Paths, 0, now, &mut *self.rng);
    }

    /// A ping has ended; says whether it was one of ours.
    pub(super) fn probe_done(&mut self, id: PingId, answered: bool) -> bool {
        let Some(peer) = self.probes.remove(&id) else {
            return false;
        };
        let now = self.clocks.now;
        let waits = self.tunnels.get(&peer).is_some_and(|tunnel| {
            tunnel.peer.state() == State::Handshake
                && tunnel
                    .knocking
                    .is_some_and(|knocking| now.since(knocking.since) > ON_ITS_WAY)
        });
        if answered && waits {
            self.with_tunnel(peer, |tunnel, ctx| {
                tunnel.restarts += 1;
                tunnel.knocking = None;
                tunnel.peer.close(ctx.indices);
                tunnel.peer.want_session(ctx);
            });
            self.after(peer);
        }
        true
    }
}
