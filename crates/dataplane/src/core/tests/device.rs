//! With a TUN device.

use std::net::IpAddr;

use metrics::DropReason;
use packet::addr::{SERVICE_V4, SERVICE_V6};
use packet::icmp::Echo;
use packet::tsmp;
use packet::{IpView, Proto, TcpFlags, ip_packet};
use proptest::prelude::*;

use super::world::*;
use crate::{Firewall, PingKind};

fn world() -> World {
    let mut world = World::new(2);
    world.use_tun(0);
    world.use_tun(1);
    world
}

fn udp(from: IpAddr, to: IpAddr, data: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; 8];
    datagram[..2].copy_from_slice(&4000u16.to_be_bytes());
    datagram[2..4].copy_from_slice(&5000u16.to_be_bytes());
    datagram[4..6].copy_from_slice(&(8 + data.len() as u16).to_be_bytes());
    datagram.extend_from_slice(data);
    ip_packet(from, to, Proto::UDP, &datagram).unwrap()
}

fn echo(from: IpAddr, to: IpAddr) -> Vec<u8> {
    let echo = Echo {
        reply: false,
        id: 7,
        seq: 9,
        data: b"abc",
    };
    echo.packet(from, to).unwrap()
}

fn dropped(world: &World, node: usize, reason: DropReason) -> u64 {
    world.nodes[node].metrics.outbound.dropped(reason)
}

#[test]
fn packets_go_from_host_to_host() {
    let mut world = world();
    let there = udp(ip(0), ip(1), b"there");
    let back = udp(ip(1), ip(0), b"back");
    world.send_from_host(0, &there);
    world.run(SEC * 3);
    assert_eq!(world.nodes[1].to_host, [there]);
    world.send_from_host(1, &back);
    world.run(SEC);
    assert_eq!(world.nodes[0].to_host, [back]);
}

#[test]
fn an_answer_comes_in_where_nothing_else_does() {
    let mut world = world();
    world.nodes[0].network.firewall = world.firewall(0, &[]);
    world.configure(0);
    let answer = udp(ip(1), ip(0), b"answer");
    // As the answer's flow seen from here.
    let mut asked = answer.clone();
    asked[12..20].rotate_left(4);
    asked[20..24].rotate_left(2);
    world.send_from_host(1, &answer);
    world.run(SEC * 3);
    assert!(world.nodes[0].to_host.is_empty(), "nobody asked");
    world.send_from_host(0, &asked);
    world.send_from_host(1, &answer);
    world.run(SEC * 3);
    assert_eq!(world.nodes[0].to_host, [answer]);
}

#[test]
fn pings_of_the_engine_work_beside_the_host() {
    let mut world = world();
    for kind in [PingKind::Disco, PingKind::Tsmp] {
        world.ping(0, 1, kind, SEC).unwrap().unwrap();
    }
    // The host answers an echo request; here the test is the host.
    assert_eq!(world.ping(0, 1, PingKind::Icmp, SEC), None);
    let asked = world.nodes[1].to_host.pop().unwrap();
    let view = IpView::parse(&asked).unwrap();
    let request = Echo::parse(&view).unwrap();
    let reply = Echo {
        reply: true,
        ..request
    };
    let before = world.nodes[0].to_host.len();
    world.send_from_host(1, &reply.packet(ip(1), ip(0)).unwrap());
    world.run(SEC);
    assert_eq!(
        world.nodes[0].to_host.len(),
        before,
        "the engine's own echo is not the host's"
    );
}

#[test]
fn service_addresses_answer_and_never_leave() {
    let mut world = world();
    let sent = world.tape.len();
    let v6: IpAddr = "fd7a:115c:a1e0::1".parse().unwrap();
    for (own, service) in [(ip(0), SERVICE_V4.into()), (v6, SERVICE_V6.into())] {
        world.send_from_host(0, &echo(own, service));
        let answer = world.nodes[0].to_host.pop().unwrap();
        let view = IpView::parse(&answer).unwrap();
        let reply = Echo::parse(&view).unwrap();
        assert!(reply.reply && reply.data == b"abc" && (reply.id, reply.seq) == (7, 9));
        assert_eq!((view.src(), view.dst()), (service, own));
    }
    let mut syn = [0u8; 20];
    syn[..4].copy_from_slice(&[0x10, 0, 0, 80]);
    syn[12] = 5 << 4;
    syn[13] = TcpFlags::SYN;
    let syn = ip_packet(ip(0), SERVICE_V4.into(), Proto::TCP, &syn).unwrap();
    world.send_from_host(0, &syn);
    // Whoever has the flows decides; without one it stays unanswered, and never leaves the machine.
    world.run(SEC);
    assert_eq!(world.tape.len(), sent);
}

#[test]
fn what_does_not_belong_in_the_tunnel_stays_out() {
    let mut world = world();
    let sent = world.tape.len();
    let nobody: IpAddr = "100.64.9.9".parse().unwrap();
    world.send_from_host(0, &udp(ip(0), nobody, b"x"));
    let ping = tsmp::Message::Ping([1; 8]).packet(ip(0), ip(1)).unwrap();
    world.send_from_host(0, &ping);
    assert_eq!(dropped(&world, 0, DropReason::Error), 2);
    world.send_from_host(0, &[0x45]);
    assert_eq!(dropped(&world, 0, DropReason::TooShort), 1);
    world.send_from_host(0, &[0x15; 40]);
    assert_eq!(dropped(&world, 0, DropReason::UnknownProtocol), 1);
    world.nodes[0].network.firewall = Firewall::default();
    world.configure(0);
    world.send_from_host(0, &udp(ip(0), ip(1), b"x"));
    assert_eq!(
        dropped(&world, 0, DropReason::Acl),
        1,
        "no network, no packets"
    );
    world.run(SEC);
    assert_eq!(world.tape.len(), sent);
}

#[test]
fn a_peer_reaches_the_host_only_as_itself_and_only_there() {
    let mut world = world();
    let elsewhere: IpAddr = "192.0.2.1".parse().unwrap();
    for packet in [
        udp(ip(1), elsewhere, b"x"),
        udp(elsewhere, ip(0), b"x"),
        udp(ip(1), SERVICE_V4.into(), b"x"),
    ] {
        world.send_raw(1, 0, &packet);
    }
    world.run(SEC * 3);
    assert_eq!(world.nodes[0].to_host, Vec::<Vec<u8>>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_from_the_host_are_survived(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1400), 1..20),
        mangle in any::<[u8; 4]>(),
    ) {
        let mut world = world();
        for packet in &packets {
            world.send_from_host(0, packet);
            let mut near = udp(ip(0), ip(1), packet);
            let at = usize::from(mangle[0]) % near.len();
            near[at] ^= mangle[1];
            near.truncate(near.len() - usize::from(mangle[2]) % near.len());
            world.send_from_host(0, &near);
        }
        world.run(SEC);
        world.send_from_host(0, &udp(ip(0), ip(1), b"alive"));
        world.run(SEC * 3);
        prop_assert!(world.nodes[1].to_host.contains(&udp(ip(0), ip(1), b"alive")));
    }
}

#[test]
fn the_host_hears_of_packets_that_a_way_does_not_carry() {
    let mut world = world();
    world.open_sockets();
    world.path_mtu = 1280;
    let small = udp(ip(0), ip(1), &[1; 1000]);
    world.send_from_host(0, &small);
    world.run(SEC * 5);
    world.send_from_host(0, &small);
    world.run(SEC);
    let arrived = world.nodes[1].to_host.len();
    assert!(arrived >= 2, "{arrived}");
    let mut large = udp(ip(0), ip(1), &[1; 1200]);
    world.send_from_host(0, &large);
    world.run(SEC);
    assert_eq!(world.nodes[1].to_host.len(), arrived + 1, "it may be cut");
    large[6] |= 0x40;
    world.send_from_host(0, &large);
    world.run(SEC);
    assert_eq!(world.nodes[1].to_host.len(), arrived + 1);
    let told = world.nodes[0].to_host.last().unwrap();
    let told = IpView::parse(told).unwrap();
    assert_eq!((told.icmp(), told.dst()), (Some((3, 4)), ip(0)));
    // 1280 without the headers around, in steps of sixteen.
    assert_eq!(told.transport()[6..8], 1216_u16.to_be_bytes());
}
