//! Our own TCP/IP stack, and the streams over it.

use host::Instant;
use netstack::{Config, Netstack};
use packet::IpView;
use packet::addr::is_service_ip;

use super::Core;
use crate::streams::FlowHub;

/// Packets that the stack may make before other work gets its turn.
const TURN: usize = 64;
/// How often streams and packets may take turns before other work gets its turn.
const TURNS: usize = 4;

pub(crate) struct Stack {
    pub(crate) net: Netstack,
    hub: FlowHub,
    /// The packet being moved.
    packet: Vec<u8>,
    /// Whether it stopped only to let other work have its turn.
    pub(crate) more: bool,
}

impl Stack {
    pub(crate) fn new(hub: FlowHub) -> Self {
        Self {
            net: Netstack::new(Config::default()),
            hub,
            packet: Vec::new(),
            more: false,
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.net.next_timeout()
    }
}

impl Core {
    /// Carries bytes between streams and packets. While the way out is `congested`, the stack makes no packets: its windows
    /// hold the streams back.
    pub(super) fn turn_stack(&mut self, congested: bool) {
        let now = self.clocks.now;
        if self.stack.next_timeout().is_some_and(|at| at <= now) {
            self.stack.net.handle_timeout(now);
        }
        self.stack.more = false;
        for _ in 0..TURNS {
            let stack = &mut self.stack;
            // Echo replies of others than the engine, which took its own before the filter, are nobody's.
            let _ = stack.hub.turn(&mut stack.net, now, &mut *self.rng);
            if congested || !self.transmit() {
                return;
            }
        }
        self.stack.more = true;
    }

    /// Sends what the stack has to send; says whether it had anything.
    fn transmit(&mut self) -> bool {
        let now = self.clocks.now;
        let mut packet = std::mem::take(&mut self.stack.packet);
        let mut sent = 0;
        while sent < TURN && self.stack.net.poll_transmit(&mut packet, now).is_some() {
            self.send_from_stack(&packet);
            sent += 1;
        }
        self.stack.packet = packet;
        sent > 0
    }

    fn send_from_stack(&mut self, packet: &[u8]) {
        let Ok(view) = IpView::parse(packet) else {
            return self.drop_out(1);
        };
        if self.host.is_some() && is_service_ip(view.src()) {
            return self.give_host(packet);
        }
        let Some(peer) = self.shared.route(view.dst()) else {
            return self.drop_out(1);
        };
        let jailed = self.shared.config(peer).is_some_and(|peer| peer.jailed);
        self.guard.note_out(&view, jailed);
        self.send_to_peer(peer, packet);
    }
}
