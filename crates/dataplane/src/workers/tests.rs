//! Both workers of two nodes, with devices and sockets that only keep what they are given.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use filter::{Filter, Flows, LocalSet, Rules};
use host::{
    Batch, Csum, DropCounts, Ecn, Gso, GsoKind, Instant, Limits, PeerConfig, Sent, SocketId,
    TunQueue, TunRx, TunTx, UdpRx, UdpSocket, UdpTx, Until, Waker,
};
use ipnet::IpNet;
use keys::{DiscoPublic, NodePrivate};
use metrics::{DropReason, Path, UserMetrics};
use packet::{PeerId, Proto, checksum};
use tailcfg::FilterRule;
use wireguard::{DATA_OVERHEAD, Session};

mod micro;

use super::{Receiver, Transmitter};
use crate::core::Guard;
use crate::link::SendQueue;
use crate::mailbox::{Inbox, Mailbox};
use crate::shared::{Lent, PeerCell, Shared, Way};
use crate::sockets::SocketPair;
use crate::trial::{sessions, start};

const MTU: usize = 1280;
const HEADERS: usize = 40;

fn ip(side: usize) -> IpAddr {
    [100, 64, 0, side as u8 + 1].into()
}

fn place(side: usize) -> SocketAddr {
    ([198, 51, 100, side as u8 + 1], 41641).into()
}

/// A train as the socket was given it.
#[derive(Debug, Clone)]
struct Train {
    to: SocketAddr,
    stride: u16,
    ecn: Ecn,
    data: Vec<u8>,
}

/// A socket that keeps what is sent, or refuses it.
#[derive(Default)]
struct Wire {
    sent: Mutex<Vec<Train>>,
    refuses: Mutex<Option<DropCounts>>,
    /// Counts bytes only.
    discards: AtomicBool,
    bytes: AtomicUsize,
}

impl UdpSocket for Wire {
    fn id(&self) -> SocketId {
        SocketId(1)
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(place(0))
    }
    fn recv(&self, _: &mut [u8], _: &mut Batch<UdpRx>, _: Until) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn send(&self, batch: &[UdpTx<'_>]) -> Sent {
        if let Some(lost) = *self.refuses.lock().unwrap() {
            let done = 0;
            return Sent {
                done,
                lost,
                downgraded: None,
            };
        }
        if self.discards.load(Ordering::Relaxed) {
            let bytes = batch.iter().map(|tx| tx.data.len()).sum();
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            return Sent {
                done: batch.len(),
                ..Sent::default()
            };
        }
        let train = |tx: &UdpTx<'_>| Train {
            to: tx.to,
            stride: tx.stride,
            ecn: tx.ecn,
            data: tx.data.to_vec(),
        };
        self.sent.lock().unwrap().extend(batch.iter().map(train));
        Sent {
            done: batch.len(),
            ..Sent::default()
        }
    }
    fn waker(&self) -> Waker {
        Waker::new(|| {})
    }
}

/// A device that keeps what it is given, or refuses it.
#[derive(Default)]
struct Device {
    got: Mutex<Vec<(Gso, Vec<u8>)>>,
    is_full: AtomicBool,
    /// Counts bytes only.
    discards: AtomicBool,
    bytes: AtomicUsize,
}

impl TunQueue for Device {
    fn recv(&self, _: &mut [u8], _: &mut Batch<TunRx>, _: Until) -> io::Result<()> {
        Err(io::ErrorKind::NotConnected.into())
    }
    fn send(&self, packets: &[TunTx<'_>]) -> Sent {
        if self.is_full.load(Ordering::Relaxed) {
            let lost = DropCounts {
                no_buffer: packets.len() as u32,
                ..DropCounts::default()
            };
            return Sent {
                done: 0,
                lost,
                downgraded: None,
            };
        }
        if self.discards.load(Ordering::Relaxed) {
            let pieces = packets.iter().flat_map(|tx| tx.iov);
            let bytes = pieces.map(|piece| piece.len()).sum();
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            return Sent {
                done: packets.len(),
                ..Sent::default()
            };
        }
        let bytes = |tx: &TunTx<'_>| tx.iov.iter().flat_map(|piece| piece.to_vec()).collect();
        let all = packets.iter().map(|tx| (tx.gso, bytes(tx)));
        self.got.lock().unwrap().extend(all);
        Sent {
            done: packets.len(),
            ..Sent::default()
        }
    }
    fn takes(&self) -> Limits {
        Limits {
            tcp: true,
            udp: true,
        }
    }
    fn waker(&self) -> Waker {
        Waker::new(|| {})
    }
}

/// One node.
struct Side {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    metrics: Arc<UserMetrics>,
    wire: Arc<Wire>,
    device: Arc<Device>,
    cell: Arc<PeerCell>,
    session: Arc<Session>,
    transmitter: Transmitter,
    receiver: Receiver,
}

impl Side {
    fn new(side: usize, session: Arc<Session>, keys: &[NodePrivate; 2]) -> Self {
        let shared = Shared::new(DiscoPublic::default(), MTU);
        let other = 1 - side;
        let host = IpNet::from(ip(other));
        let peer = PeerConfig {
            id: PeerId(1),
            key: keys[other].public(),
            disco: DiscoPublic::default(),
            home_derp: 1,
            endpoints: vec![place(other)],
            addresses: vec![ip(other)],
            sources: vec![host],
            routes: vec![host],
            jailed: false,
            masquerade: host::Masquerade::default(),
        };
        shared.change_table(|table| table.upsert(Arc::new(peer)));
        let cell = PeerCell::new(PeerId(1));
        cell.session.store(Some(Arc::clone(&session)));
        cell.lent.store(Some(Arc::new(Lent::new(
            Way::Direct(place(other)),
            start(),
        ))));
        shared.add_cell(&cell);
        shared.bind(&session, &cell);
        let wire = Arc::new(Wire::default());
        shared.sockets.store(Arc::new(SocketPair::of(wire.clone())));
        let (mailbox, metrics) = (
            Arc::new(Mailbox::default()),
            Arc::new(UserMetrics::default()),
        );
        let device = Arc::new(Device::default());
        let made = Self {
            transmitter: Transmitter::new(0, shared.clone(), mailbox.clone(), metrics.clone()),
            receiver: Receiver::new(
                shared.clone(),
                wire.clone(),
                Some(device.clone()),
                mailbox.clone(),
                metrics.clone(),
                Arc::new(AtomicBool::new(false)),
            ),
            shared,
            mailbox,
            metrics,
            wire,
            device,
            cell,
            session,
        };
        made.allow(side, &[FilterRule::allow_all()]);
        made
    }

    fn allow(&self, side: usize, rules: &[FilterRule]) {
        let (rules, problems) = Rules::parse(rules);
        assert_eq!(problems, []);
        let (local, flows) = (
            LocalSet::new([IpNet::from(ip(side))]),
            Arc::new(Flows::new()),
        );
        let guard = Guard {
            filter: Some(Arc::new(Filter::new(rules, local.clone(), flows.clone()))),
            jailed: Some(Arc::new(Filter::shields_up(local, flows))),
            ..Guard::default()
        };
        self.shared.guard.store(Arc::new(guard));
    }

    fn inbox(&self) -> Inbox {
        let mut inbox = Inbox::default();
        self.mailbox.take(&mut inbox, Some(Duration::ZERO));
        inbox
    }

    /// What the device of this side sends, as one read.
    fn send(&mut self, packets: &[(Vec<u8>, Gso, Csum)], now: Instant) -> Vec<Train> {
        let (mut buffer, mut read) = (Vec::new(), Vec::new());
        for (bytes, gso, csum) in packets {
            read.push(TunRx {
                off: buffer.len() as u32,
                len: bytes.len() as u32,
                gso: *gso,
                csum: *csum,
            });
            buffer.extend_from_slice(bytes);
        }
        self.transmitter.batch(&mut buffer, &read, now);
        std::mem::take(&mut *self.wire.sent.lock().unwrap())
    }

    /// What the network brings this side, as one read.
    fn receive(&mut self, trains: &[Train], now: Instant) -> Vec<(Gso, Vec<u8>)> {
        let (mut buffer, mut read) = (Vec::new(), Vec::new());
        for train in trains {
            read.push(UdpRx {
                off: buffer.len() as u32,
                len: train.data.len() as u32,
                stride: train.stride,
                from: place(0),
                to: None,
                ecn: train.ecn,
            });
            buffer.extend_from_slice(&train.data);
        }
        self.receiver.batch(&mut buffer, &read, now);
        std::mem::take(&mut *self.device.got.lock().unwrap())
    }

    fn dropped(&self, inbound: bool) -> u64 {
        let counters = if inbound {
            &self.metrics.inbound
        } else {
            &self.metrics.outbound
        };
        [DropReason::Error, DropReason::Acl]
            .map(|reason| counters.dropped(reason))
            .iter()
            .sum()
    }
}

/// Two nodes with a session between them. The first has asked for it.
fn scene() -> [Side; 2] {
    let ([first, second], keys) = sessions();
    [Side::new(0, first, &keys), Side::new(1, second, &keys)]
}

/// A TCP packet from one side to the other with a checksum as a kernel leaves it for a super-packet, or a complete one.
fn tcp(from: usize, sequence: u32, payload: &[u8], is_complete: bool) -> Vec<u8> {
    let mut header = vec![0; 20];
    header[..4].copy_from_slice(&[0x9c, 0x40, 0x01, 0xbb]);
    header[4..8].copy_from_slice(&sequence.to_be_bytes());
    header[12..14].copy_from_slice(&[0x50, 0x10]);
    header[14..16].copy_from_slice(&5000_u16.to_be_bytes());
    header.extend_from_slice(payload);
    let (src, dst) = (ip(from), ip(1 - from));
    let pseudo = checksum::pseudo_header(src, dst, Proto::TCP, header.len());
    let sum = match is_complete {
        true => checksum::finish(checksum::add(pseudo, &header)),
        false => !checksum::finish(pseudo),
    };
    header[16..18].copy_from_slice(&sum.to_be_bytes());
    packet::ip_packet(src, dst, Proto::TCP, &header).expect("one family")
}

/// A UDP packet from the first side to the second.
fn udp(payload: &[u8]) -> Vec<u8> {
    let len = 8 + payload.len() as u16;
    let mut datagram = [40000_u16, 443, len, 0].map(u16::to_be_bytes).concat();
    datagram.extend_from_slice(payload);
    packet::ip_packet(ip(0), ip(1), Proto::UDP, &datagram).expect("one family")
}

const ONE: Gso = Gso {
    kind: GsoKind::None,
    hdr_len: 0,
    size: 0,
};
const PARTIAL: Csum = Csum::Partial {
    start: 20,
    offset: 16,
};

fn gso(size: u16) -> Gso {
    Gso {
        kind: GsoKind::Tcp4,
        hdr_len: HEADERS as u16,
        size,
    }
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 256) as u8).collect()
}

#[test]
fn a_super_packet_becomes_one_train_and_a_super_packet_again() {
    let [mut a, mut b] = scene();
    let payload = text(50_000);
    let trains = a.send(&[(tcp(0, 7, &payload, false), gso(1200), PARTIAL)], start());
    assert_eq!(trains.len(), 1);
    let sealed = (HEADERS + 1200_usize).next_multiple_of(16) + DATA_OVERHEAD;
    assert_eq!(
        (trains[0].to, usize::from(trains[0].stride)),
        (place(1), sealed)
    );
    assert_eq!(trains[0].data.len().div_ceil(sealed), 42);
    assert_eq!(a.metrics.outbound.packets(Path::DirectIpv4), 42);
    let got = b.receive(&trains, start());
    assert_eq!(got.len(), 1);
    assert_eq!(
        (got[0].0, got[0].1.len()),
        (gso(1200), HEADERS + payload.len())
    );
    assert!(got[0].1[HEADERS..] == payload);
    assert_eq!(b.metrics.inbound.packets(Path::DirectIpv4), 42);
    assert_eq!((a.dropped(false), b.dropped(true)), (0, 0));
}

#[test]
fn no_plain_text_leaves() {
    let [mut a, _] = scene();
    let secret = [0x41; 600];
    let packets: Vec<_> = (0..70)
        .map(|n| (tcp(0, n * 600, &secret, true), ONE, Csum::Full))
        .collect();
    for count in [1, 2, 16, 70] {
        for train in a.send(&packets[..count], start()) {
            assert!(!train.data.windows(16).any(|part| part == &secret[..16]));
        }
    }
}

#[test]
fn small_packets_of_one_read_are_sealed_in_their_order() {
    let [mut a, mut b] = scene();
    let packets: Vec<_> = (0..130_u32)
        .map(|n| (tcp(0, n * 1000, &[n as u8], true), ONE, Csum::Full))
        .collect();
    let trains = a.send(&packets, start());
    let got = b.receive(&trains, start());
    let bytes: Vec<u8> = got.iter().map(|(_, packet)| packet[HEADERS]).collect();
    let expected: Vec<u8> = (0..130).collect();
    assert_eq!(bytes, expected);
}

#[test]
fn what_came_before_does_not_come_again() {
    let [mut a, mut b] = scene();
    let trains = a.send(
        &[(tcp(0, 7, &text(5000), false), gso(1000), PARTIAL)],
        start(),
    );
    assert_eq!(b.receive(&trains, start()).len(), 1);
    assert!(b.receive(&trains, start()).is_empty());
    // Nor within one read.
    let trains = a.send(&[(tcp(0, 9, &text(100), true), ONE, Csum::Full)], start());
    let twice = [trains.clone(), trains].concat();
    assert_eq!(b.receive(&twice, start()).len(), 1);
}

#[test]
fn damage_costs_only_its_own_packet() {
    let [mut a, mut b] = scene();
    let mut trains = a.send(
        &[(tcp(0, 0, &text(10_000), false), gso(1000), PARTIAL)],
        start(),
    );
    let stride = usize::from(trains[0].stride);
    trains[0].data[3 * stride + 40] ^= 4;
    let got = b.receive(&trains, start());
    let lens: Vec<usize> = got
        .iter()
        .map(|(_, packet)| packet.len() - HEADERS)
        .collect();
    assert_eq!(lens, [3000, 6000]);
}

#[test]
fn hostile_trains_are_no_trouble() {
    let [mut a, mut b] = scene();
    let good = a.send(
        &[(tcp(0, 0, &text(3000), false), gso(1000), PARTIAL)],
        start(),
    );
    let data = &good[0].data;
    for stride in [0, 1, 3, 15, 16, 31, 32, 33, 60_000, u16::MAX] {
        let train = |data: &[u8]| Train {
            stride,
            data: data.to_vec(),
            ..good[0].clone()
        };
        b.receive(
            &[
                train(data),
                train(&[]),
                train(&data[..40]),
                train(&[4, 0, 0, 0]),
            ],
            start(),
        );
    }
    // Mixed sizes in one train: what does not fit its stride is damaged, the others pass.
    let short = Train {
        stride: good[0].stride,
        data: data[..data.len() - 7].to_vec(),
        ..good[0].clone()
    };
    let got = b.receive(&[short], start());
    assert_eq!(
        got.iter()
            .map(|(_, packet)| packet.len() - HEADERS)
            .sum::<usize>(),
        2000
    );
    // A range outside the buffer.
    let mut buffer = [4; 64];
    let outside = UdpRx {
        off: 60,
        len: 500,
        stride: 100,
        from: place(0),
        to: None,
        ecn: Ecn(0),
    };
    b.receiver.batch(&mut buffer, &[outside], start());
}

#[test]
fn a_kernel_that_lies_loses_its_packet_only() {
    let [mut a, _] = scene();
    let good = tcp(0, 7, &text(3000), false);
    let lies = [
        (gso(0), PARTIAL),
        (gso(1000), Csum::Full),
        (
            gso(1000),
            Csum::Partial {
                start: 2000,
                offset: 16,
            },
        ),
        (
            Gso {
                kind: GsoKind::Udp,
                ..gso(1000)
            },
            PARTIAL,
        ),
        (
            Gso {
                kind: GsoKind::Tcp6,
                ..gso(1000)
            },
            PARTIAL,
        ),
        (
            ONE,
            Csum::Partial {
                start: 9000,
                offset: 16,
            },
        ),
    ];
    for (at, (gso, csum)) in lies.into_iter().enumerate() {
        assert!(
            a.send(&[(good.clone(), gso, csum)], start()).is_empty(),
            "{at}"
        );
        assert_eq!(a.dropped(false), at as u64 + 1);
    }
    let sent = a.send(
        &[
            (good[..10].to_vec(), ONE, Csum::Full),
            (Vec::new(), ONE, Csum::Full),
        ],
        start(),
    );
    assert!(sent.is_empty());
    let mut buffer = good;
    let outside = TunRx {
        off: 3000,
        len: 1000,
        gso: gso(10),
        csum: PARTIAL,
    };
    a.transmitter.batch(&mut buffer, &[outside], start());
    assert!(a.wire.sent.lock().unwrap().is_empty());
}

#[test]
fn without_a_session_or_a_way_the_engine_gets_it() {
    let [mut a, _] = scene();
    let packet = [(tcp(0, 7, &text(3000), false), gso(1000), PARTIAL)];
    let later = start() + Duration::from_secs(3);
    assert!(a.send(&packet, later).is_empty(), "the way has run out");
    let waiting = |inbox: Inbox| {
        inbox
            .from_host
            .iter()
            .map(|some| some.packets().count())
            .sum::<usize>()
    };
    assert_eq!(waiting(a.inbox()), 3);
    a.cell
        .lent
        .store(Some(Arc::new(Lent::new(Way::Direct(place(1)), later))));
    assert_eq!(a.send(&packet, later).len(), 1);
    a.cell.session.store(None);
    assert!(a.send(&packet, later).is_empty());
    assert_eq!(waiting(a.inbox()), 3);
    // An old session seals nothing.
    a.cell.session.store(Some(a.session.clone()));
    let late = start() + Duration::from_secs(200);
    a.cell
        .lent
        .store(Some(Arc::new(Lent::new(Way::Direct(place(1)), late))));
    assert!(a.send(&packet, late).is_empty());
    assert_eq!(waiting(a.inbox()), 3);
}

#[test]
fn what_is_lent_is_asked_for_again_while_it_is_used() {
    let [mut a, _] = scene();
    let packet = [(tcp(0, 7, &text(100), true), ONE, Csum::Full)];
    a.send(&packet, start());
    let renewals = |a: &Side| {
        let pokes = a.inbox().pokes;
        pokes
            .iter()
            .filter(|poke| matches!(poke, crate::mailbox::Poke::Renew(PeerId(1))))
            .count()
    };
    assert_eq!(renewals(&a), 0);
    let later = start() + Duration::from_millis(600);
    assert_eq!(a.send(&packet, later).len(), 1);
    assert_eq!(a.send(&packet, later).len(), 1);
    assert_eq!(renewals(&a), 1, "once, not for each packet");
}

#[test]
fn an_unknown_destination_is_counted() {
    let [mut a, _] = scene();
    let mut packet = tcp(0, 7, &text(100), true);
    packet[19] = 77;
    assert!(a.send(&[(packet, ONE, Csum::Full)], start()).is_empty());
    assert_eq!(a.dropped(false), 1);
}

#[test]
fn a_change_of_the_network_is_noticed_by_flows_that_were_looked_up() {
    let [mut a, mut b] = scene();
    let packet = [(udp(&text(100)), ONE, Csum::Full)];
    let trains = a.send(&packet, start());
    assert_eq!(b.receive(&trains, start()).len(), 1);
    b.allow(1, &[]);
    let trains = a.send(&packet, start());
    assert!(b.receive(&trains, start()).is_empty());
    assert_eq!(b.metrics.inbound.dropped(DropReason::Acl), 1);
    a.shared.change_table(|table| table.remove(PeerId(1)));
    assert!(a.send(&packet, start()).is_empty());
}

#[test]
fn a_source_that_is_not_the_peers_is_dropped() {
    let [mut a, mut b] = scene();
    let mut packet = tcp(0, 7, &text(100), true);
    packet[15] = 99;
    let trains = a.send(&[(packet, ONE, Csum::Full)], start());
    assert!(b.receive(&trains, start()).is_empty());
}

#[test]
fn a_full_device_or_socket_costs_counted_packets_and_nothing_else() {
    let [mut a, mut b] = scene();
    let packet = |n: u32| [(tcp(0, n, &text(2500), false), gso(1000), PARTIAL)];
    let lost = DropCounts {
        no_buffer: 3,
        ..DropCounts::default()
    };
    *a.wire.refuses.lock().unwrap() = Some(lost);
    assert!(a.send(&packet(0), start()).is_empty());
    assert_eq!(a.dropped(false), 3);
    *a.wire.refuses.lock().unwrap() = None;
    let trains = a.send(&packet(0), start());
    b.device.is_full.store(true, Ordering::Relaxed);
    assert!(b.receive(&trains, start()).is_empty());
    assert_eq!(b.dropped(true), 1);
    b.device.is_full.store(false, Ordering::Relaxed);
    let trains = a.send(&packet(2500), start());
    assert_eq!(b.receive(&trains, start()).len(), 1);
}

#[test]
fn no_way_to_an_address_is_told() {
    let [mut a, _] = scene();
    let lost = DropCounts {
        unreachable: 1,
        ..DropCounts::default()
    };
    *a.wire.refuses.lock().unwrap() = Some(lost);
    a.send(&[(tcp(0, 0, &text(10), true), ONE, Csum::Full)], start());
    let told = a.inbox().pokes;
    assert!(
        told.contains(&crate::mailbox::Poke::Unreachable(place(1))),
        "{told:?}"
    );
}

#[test]
fn congestion_on_the_way_is_brought_in() {
    let [mut a, mut b] = scene();
    let mut packet = tcp(0, 0, &text(100), true);
    packet[1] = 2;
    packet[10..12].fill(0);
    let sum = checksum::of(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut trains = a.send(&[(packet, ONE, Csum::Full)], start());
    assert_eq!(trains[0].ecn, Ecn(2));
    trains[0].ecn = Ecn(3);
    let got = b.receive(&trains, start());
    assert_eq!(got[0].1[1] & 3, 3);
    assert_eq!(checksum::of(&got[0].1[..20]), 0);
    // A sender that does not know of congestion marks must notice by a loss.
    let mut trains = a.send(&[(tcp(0, 500, &text(100), true), ONE, Csum::Full)], start());
    trains[0].ecn = Ecn(3);
    assert!(b.receive(&trains, start()).is_empty());
}

#[test]
fn a_relay_gets_frames_in_one_batch() {
    let [mut a, mut b] = scene();
    let link = magicsock::LinkId(4);
    let queue = Arc::new(SendQueue::new(true));
    let links = std::collections::BTreeMap::from([(link, queue.clone())]);
    a.shared.links.store(Arc::new(links));
    let way = Way::Relay {
        link,
        to: sessions().1[1].public(),
    };
    a.cell.lent.store(Some(Arc::new(Lent::new(way, start()))));
    assert!(
        a.send(
            &[(tcp(0, 7, &text(12_000), false), gso(1000), PARTIAL)],
            start()
        )
        .is_empty()
    );
    assert_eq!(a.metrics.outbound.packets(Path::Derp), 12);
    // As the relay would hand them on.
    let mut taken = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(queue.take(&mut taken));
    let mut trains = Vec::new();
    let mut rest = &taken[..];
    while let Some((header, behind)) = rest.split_first_chunk::<5>() {
        let len = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let (frame, behind) = behind.split_at(len);
        let data = frame[derp::KEY_LEN..].to_vec();
        trains.push(Train {
            to: place(1),
            stride: data.len() as u16,
            ecn: Ecn(0),
            data,
        });
        rest = behind;
    }
    assert_eq!(trains.len(), 12);
    let got = b.receive(&trains, start());
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].1.len(), HEADERS + 12_000);
}

#[test]
fn with_the_help_of_others_everything_stays_in_order() {
    let crew = super::Crew::start(3).expect("threads");
    let [mut a, mut b] = scene();
    a.transmitter = a.transmitter.with_crew(crew.as_ref());
    b.receiver = b.receiver.with_crew(crew.as_ref());
    let payload = text(2_000_000);
    let mut trains = Vec::new();
    // Large ones and small ones by turns.
    let mut at = 0;
    for len in [55_000, 300, 30_000, 61_000, 1].into_iter().cycle() {
        let Some(part) = payload.get(at..at + len) else {
            break;
        };
        let (gso, csum) = if len > 1200 {
            (gso(1200), PARTIAL)
        } else {
            (ONE, Csum::Full)
        };
        let packet = tcp(0, at as u32, part, len <= 1200);
        trains.extend(a.send(&[(packet, gso, csum)], start()));
        at += len;
    }
    a.transmitter.drain();
    trains.append(&mut a.wire.sent.lock().unwrap());
    let stride = |train: &Train| usize::from(train.stride);
    let counters: Vec<u64> = trains
        .iter()
        .flat_map(|train| train.data.chunks(stride(train)))
        .map(|datagram| u64::from_le_bytes(*datagram[8..].first_chunk().unwrap()))
        .collect();
    assert!(
        counters.iter().copied().eq(0..counters.len() as u64),
        "{counters:?}"
    );
    for train in &trains {
        let len = train.data.len() as u32;
        let (off, from, to) = (0, place(0), None);
        let rx = UdpRx {
            off,
            len,
            stride: train.stride,
            from,
            to,
            ecn: train.ecn,
        };
        b.receiver.parcel(train.data.clone(), &[rx], start());
    }
    b.receiver.drain();
    let got = b.device.got.lock().unwrap();
    let bytes: Vec<u8> = got
        .iter()
        .flat_map(|(_, packet)| packet[HEADERS..].to_vec())
        .collect();
    assert_eq!(bytes.len(), at);
    assert!(bytes == payload[..at]);
    assert_eq!((a.dropped(false), b.dropped(true)), (0, 0));
}
