//! The host behind the TUN device: what it sends goes to peers, what peers send goes to it.
//!
//! What it sends to our service addresses never leaves: echo requests are answered here, all else is for our own stack.

use std::sync::atomic::Ordering;

use filter::Verdict;
use packet::addr::{SERVICE_V4, SERVICE_V6, is_service_ip};
use packet::icmp::{self, Echo};
use packet::{IpView, PeerId, mss, tsmp};

use super::guard::label;
use super::{Core, Effect};
use crate::tun::{FromHost, ToHost};

/// What waits to be given to the host.
#[derive(Debug, Default)]
pub(crate) struct HostSide {
    waiting: ToHost,
}

impl Core {
    /// There is a device: what comes to our own addresses is the host's but for the PeerAPI, and our stack has those of our services.
    pub(crate) fn use_tun(&mut self, mtu: usize) {
        self.host = Some(HostSide::default());
        self.mtu = mtu;
        self.shared.mtu.store(mtu, Ordering::Relaxed);
        self.stack
            .net
            .set_addresses(&[SERVICE_V4.into(), SERVICE_V6.into()]);
    }

    /// Takes what the host has sent.
    pub(crate) fn handle_from_host(&mut self, packets: &FromHost) {
        for packet in packets.packets() {
            self.send_from_host(packet);
        }
        self.drain_magic();
    }

    fn send_from_host(&mut self, packet: &[u8]) {
        let view = match IpView::parse(packet) {
            Ok(view) => view,
            Err(unparsed) => {
                if let Verdict::Drop(reason) = Verdict::from(unparsed) {
                    self.metrics.outbound.count_dropped(label(reason), 1);
                }
                return;
            }
        };
        if is_service_ip(view.dst()) {
            return self.answer_as_service(&view);
        }
        // TSMP is the engines' own, and our own disco inside the tunnel would be a loop.
        if tsmp::Message::parse(&view).is_some() || self.is_own_disco(&view) {
            return self.drop_out(1);
        }
        let Some(peer) = self.shared.route(view.dst()) else {
            tracing::trace!("no peer has {}", view.dst());
            return self.drop_out(1);
        };
        let jailed = self.shared.config(peer).is_some_and(|peer| peer.jailed);
        match self.guard.judge_out(&view, jailed) {
            Verdict::Accept => match self.too_long_for(peer, &view) {
                Some(refusal) => self.give_host(&refusal),
                None => self.send_to_peer(peer, packet),
            },
            Verdict::Drop(reason) => self.metrics.outbound.count_dropped(label(reason), 1),
        }
    }

    /// What the host is told of a packet that cannot go to the peer in one piece, if it must.
    ///
    /// IPv6 cannot be told of less than 1280 bytes: its packets go on in datagrams that are cut into fragments.
    fn too_long_for(&self, peer: PeerId, view: &IpView<'_>) -> Option<Vec<u8>> {
        let limit = self
            .tunnels
            .get(&peer)?
            .cell
            .inner_mtu
            .load(Ordering::Relaxed);
        let is_told = limit != 0 && view.bytes().len() > limit && view.src().is_ipv4();
        if !is_told || !mss::is_whole(view.bytes()) {
            return None;
        }
        let limit = u16::try_from(limit).unwrap_or(u16::MAX);
        icmp::error(view, view.dst(), icmp::Error::TooBig(limit))
    }

    fn answer_as_service(&mut self, view: &IpView<'_>) {
        match Echo::parse(view).filter(|echo| !echo.reply) {
            Some(echo) => {
                let reply = Echo {
                    reply: true,
                    ..echo
                };
                if let Some(packet) = reply.packet(view.dst(), view.src()) {
                    self.give_host(&packet);
                }
            }
            None => self.stack.net.handle_packet(view.bytes(), self.clocks.now),
        }
    }

    pub(super) fn give_host(&mut self, packet: &[u8]) {
        let Some(host) = &mut self.host else { return };
        host.waiting.push(packet);
        if host.waiting.is_full() {
            self.flush_to_host();
        }
    }

    pub(super) fn flush_to_host(&mut self) {
        if let Some(host) = &mut self.host
            && !host.waiting.is_empty()
        {
            let packets = std::mem::take(&mut host.waiting);
            self.effects.push(Effect::ToHost(packets));
        }
    }
}
