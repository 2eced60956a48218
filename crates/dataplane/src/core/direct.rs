//! Datagrams that come straight from peers, or from anybody: what they are, and to whom they belong.
//!
//! No address is believed. A session's index and keys tell whose data it is, an initiation's inside tells whose it is; and
//! where a peer's packets come from says nothing about where ours go.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use magicsock::BoundPorts;
use metrics::Path;
use netcheck::stun;
use packet::disco;
use wireguard::{Message, Session, Source, classify};

use super::{Core, Effect};
use crate::sockets::Datagrams;

impl Core {
    /// Takes the datagrams of one read. Neighbours of one session share all lookups.
    pub(crate) fn handle_datagrams(&mut self, mut datagrams: Datagrams) {
        let Datagrams {
            bytes,
            trains,
            admitted,
        } = &mut datagrams;
        let mut run = Run::default();
        for train in trains.iter() {
            let (start, len) = (train.off as usize, train.len as usize);
            let stride = usize::from(train.stride).max(1);
            for at in (start..start + len).step_by(stride) {
                let range = at..(at + stride).min(start + len);
                self.handle_datagram((train.from, *admitted), bytes, range, &mut run);
            }
        }
        self.end_run(&mut run, bytes);
        self.drain_magic();
    }

    fn handle_datagram(
        &mut self,
        (from, admitted): (SocketAddr, bool),
        bytes: &mut [u8],
        range: Range<usize>,
        run: &mut Run,
    ) {
        let Some(datagram) = bytes.get(range.clone()) else {
            return;
        };
        let now = self.clocks.now;
        if stun::is_stun(datagram) {
            return self.magic.handle_stun(datagram, now, &mut *self.rng);
        }
        if disco::looks_like(datagram) {
            return self
                .magic
                .handle_direct_disco(from, datagram, now, &mut *self.rng);
        }
        // A worker has counted what it has admitted.
        if !admitted {
            let path = path_of(from);
            self.metrics.inbound.count(path, 1, datagram.len() as u64);
        }
        match classify(datagram) {
            Ok(Message::Data { receiver, .. }) => {
                if run.session.as_ref().map(|s| s.local_index()) != Some(receiver) {
                    self.end_run(run, bytes);
                    run.session = self.indices.session(receiver).cloned();
                }
                run.data.push(range);
            }
            Ok(message) => self.handle_handshake(Source::Udp(from), &message, admitted),
            Err(error) => tracing::trace!("from {from}: {error}"),
        }
    }

    fn end_run(&mut self, run: &mut Run, bytes: &mut [u8]) {
        let session = run.session.take();
        let peer = session
            .as_ref()
            .and_then(|session| self.magic.peer_id(&session.peer()));
        match peer {
            Some(peer) => {
                if self.handle_data(peer, session, bytes, &mut run.data) {
                    self.magic.note_direct_data(peer, self.clocks.now);
                }
            }
            None => run.data.clear(),
        }
    }

    pub(super) fn send_direct(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.outgoing.push(to, datagram);
        self.flush_direct_if_full();
    }

    pub(super) fn flush_direct_if_full(&mut self) {
        if self.outgoing.is_full() {
            self.flush_direct();
        }
    }

    pub(super) fn flush_direct(&mut self) {
        if !self.outgoing.is_empty() {
            let outgoing = std::mem::take(&mut self.outgoing);
            self.effects.push(Effect::Send(outgoing));
        }
    }

    /// The sockets are bound to these ports now.
    pub(crate) fn handle_bound(&mut self, ports: BoundPorts) {
        self.magic.set_ports(ports, self.clocks.now);
        self.drain_magic();
    }

    /// There is no way to an address.
    pub(crate) fn handle_unreachable(&mut self, addr: SocketAddr) {
        self.magic.handle_unreachable(addr);
        self.drain_magic();
    }
}

/// Data of one session that was not looked into yet.
#[derive(Default)]
struct Run {
    session: Option<Arc<Session>>,
    data: Vec<Range<usize>>,
}

pub(super) fn path_of(addr: SocketAddr) -> Path {
    match addr {
        SocketAddr::V4(_) => Path::DirectIpv4,
        SocketAddr::V6(_) => Path::DirectIpv6,
    }
}
