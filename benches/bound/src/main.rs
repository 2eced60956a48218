//! The least that a userspace WireGuard can do with a packet: read, split, seal, send; receive, open, coalesce, write.
//!
//! `bound INTERFACE OWN:PORT OTHER:PORT` moves packets between a TUN device and one peer with a key that everybody knows. There
//! is no handshake, no replay window, no filter, no route, no counter but the nonce: it is a stick to measure against, and no VPN.
//! What it shares with the daemon are the parts that touch the kernel and those that take super-packets apart and put them
//! together.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use host::{Ecn, GsoKind, Tun as _, TunQueue, TunTx, UdpBinder as _, UdpSocket, UdpTx, Until};
use packet::offload::{Coalescer, MAX_SEGMENTS, Splitter, complete};

const BUFFER: usize = 128 << 10;
const HEADER: usize = 16;
const TAG: usize = 16;
const MTU: u32 = 1280;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [interface, own, other] = args.as_slice() else {
        bail!("usage: bound INTERFACE OWN:PORT OTHER:PORT");
    };
    let own: SocketAddr = own.parse().context("read our own address")?;
    let other: SocketAddr = other.parse().context("read the other's address")?;
    let mut tun = os::tun::open(interface, MTU)?;
    let queue = tun.queues().pop().context("the device has no queue")?;
    let udp = os::udp::PlainBinder.bind(own.is_ipv6(), own.port())?;
    let (queue_too, udp_too) = (Arc::clone(&queue), Arc::clone(&udp));
    let receiver = std::thread::spawn(move || receive(&*udp_too, &*queue_too));
    transmit(&*queue, &*udp, other)?;
    receiver
        .join()
        .map_err(|_| anyhow::anyhow!("the receiver panicked"))?
}

fn key() -> Result<LessSafeKey> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, &[5; 32]);
    Ok(LessSafeKey::new(key.context("make a key")?))
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Datagrams of one train.
struct Train {
    bytes: Vec<u8>,
    len: usize,
    stride: usize,
    key: LessSafeKey,
    counter: u64,
}

impl Train {
    fn seal(&mut self, packet: &[u8]) -> Option<()> {
        let padded = packet.len().next_multiple_of(16);
        let whole = HEADER + padded + TAG;
        let place = self.bytes.get_mut(self.len..self.len + whole)?;
        let (header, body) = place.split_at_mut(HEADER);
        header[..8].copy_from_slice(&[4, 0, 0, 0, 1, 0, 0, 0]);
        header[8..].copy_from_slice(&self.counter.to_le_bytes());
        let (sealed, rest) = body.split_at_mut(packet.len());
        let zeroes = [0; 16];
        self.key
            .seal_out_of_place_scatter(
                nonce(self.counter),
                Aad::empty(),
                packet,
                sealed,
                zeroes.get(..padded - packet.len())?,
                rest,
            )
            .ok()?;
        self.counter += 1;
        self.stride = self.stride.max(whole);
        self.len += whole;
        Some(())
    }

    fn send(&mut self, udp: &dyn UdpSocket, to: SocketAddr) {
        if self.len > 0 {
            let train = UdpTx {
                to,
                src: None,
                stride: u16::try_from(self.stride).unwrap_or(u16::MAX),
                ecn: Ecn::default(),
                data: self.bytes.get(..self.len).unwrap_or_default(),
            };
            let _ = udp.send(&[train]);
        }
        (self.len, self.stride) = (0, 0);
    }
}

fn transmit(tun: &dyn TunQueue, udp: &dyn UdpSocket, to: SocketAddr) -> Result<()> {
    let mut train = Train {
        bytes: vec![0; BUFFER],
        len: 0,
        stride: 0,
        key: key()?,
        counter: 0,
    };
    let (mut buffer, mut packets) = (vec![0; BUFFER], Vec::new());
    loop {
        packets.clear();
        tun.recv(&mut buffer, &mut packets, Until::Woken)?;
        for rx in &packets {
            let range = rx.off as usize..(rx.off + rx.len) as usize;
            let bytes = buffer.get_mut(range).unwrap_or_default();
            if rx.gso.kind == GsoKind::None {
                complete(bytes, rx.csum);
                train.seal(bytes);
            } else if let Ok(mut splitter) = Splitter::new(bytes, rx.gso, rx.csum) {
                while let Some(packet) = splitter.next() {
                    train.seal(packet);
                }
            }
            train.send(udp, to);
        }
    }
}

fn receive(udp: &dyn UdpSocket, tun: &dyn TunQueue) -> Result<()> {
    let key = key()?;
    let (mut buffer, mut trains) = (vec![0; BUFFER], Vec::new());
    let mut coalescer = Coalescer::new(tun.takes());
    loop {
        trains.clear();
        coalescer.clear();
        udp.recv(&mut buffer, &mut trains, Until::Woken)?;
        for train in &trains {
            let (start, end) = (train.off as usize, (train.off + train.len) as usize);
            let stride = usize::from(train.stride).max(1);
            for at in (start..end).step_by(stride) {
                let range = at..(at + stride).min(end);
                if range.len() < HEADER + TAG {
                    continue;
                }
                let Some(datagram) = buffer.get_mut(range.clone()) else {
                    continue;
                };
                let (header, body) = datagram.split_at_mut(HEADER);
                let counter = header
                    .last_chunk()
                    .map_or(0, |bytes| u64::from_le_bytes(*bytes));
                if key
                    .open_in_place(nonce(counter), Aad::empty(), body)
                    .is_err()
                {
                    continue;
                }
                let packet = range.start + HEADER..range.end - TAG;
                if !coalescer.extend(&mut buffer, packet.clone()) {
                    coalescer.start(&buffer, packet);
                }
            }
        }
        coalescer.finish(&mut buffer);
        let mut pieces = [IoSlice::new(&[]); MAX_SEGMENTS];
        for run in coalescer.runs() {
            let mut count = 0;
            for (place, range) in pieces.iter_mut().zip(coalescer.pieces(run)) {
                *place = IoSlice::new(buffer.get(range).unwrap_or_default());
                count += 1;
            }
            let packet = TunTx {
                gso: run.gso,
                csum: run.csum,
                iov: pieces.get(..count).unwrap_or_default(),
            };
            let _ = tun.send(&[packet]);
        }
    }
}
