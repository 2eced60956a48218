//! Our own TCP/IP stack, and the streams over it.

use host::{Instant, TunRx};
use netstack::Transmit;
use netstack::{Config, Netstack};
use packet::IpView;
use packet::addr::is_service_ip;
use packet::offload::{GsoKind, Splitter};

use super::Core;
use crate::streams::FlowHub;

/// Packets that the stack may make before other work gets its turn.
const TURN: usize = 128;
/// The most segments that it makes at once: what fits one train.
const AT_ONCE: usize = 48;
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
        while sent < TURN
            && let Some(made) = self.stack.net.poll_transmit_many(&mut packet, AT_ONCE, now)
        {
            sent += packet.len().div_ceil(self.mtu.max(1));
            self.send_made(&mut packet, made);
        }
        if let Some(sender) = &mut self.sender {
            sender.flush_all();
        }
        self.stack.packet = packet;
        sent > 0
    }

    /// Sends what the stack has made: the plain case as the workers do, the others packet by packet.
    fn send_made(&mut self, packet: &mut [u8], made: Transmit) {
        let now = self.clocks.now;
        let is_for_host = self.host.is_some();
        if let Some(sender) = self.sender.as_mut().filter(|_| !is_for_host) {
            let rx = TunRx {
                off: 0,
                len: packet.len() as u32,
                gso: made.gso,
                csum: made.csum,
            };
            if sender.try_send(packet, &rx, now) {
                return;
            }
        }
        if made.gso.kind == GsoKind::None {
            return self.send_from_stack(packet);
        }
        let Ok(mut splitter) = Splitter::new(packet, made.gso, made.csum) else {
            return self.drop_out(1);
        };
        while let Some(packet) = splitter.next() {
            self.send_from_stack(packet);
        }
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
