//! Each kind of NAT does what its name says. These need root.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::{Nat, Netns, World};

/// Says so if this machine cannot make namespaces.
fn can_make_namespaces(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    let _ = writeln!(
        std::io::stderr(),
        "SKIP {test}: run as root, who can make network namespaces"
    );
    false
}

fn socket(space: &Netns, at: Ipv4Addr) -> UdpSocket {
    let socket = space.run(|| UdpSocket::bind((at, 0)).unwrap()).unwrap();
    let patience = Some(Duration::from_millis(500));
    socket.set_read_timeout(patience).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Option<SocketAddr> {
    let mut buffer = [0; 16];
    socket.recv_from(&mut buffer).ok().map(|(_, from)| from)
}

/// The address from which a site's socket is seen by two servers.
fn seen_as(world: &World, inside: &UdpSocket) -> [Option<SocketAddr>; 2] {
    World::SERVERS.map(|server| {
        let server = socket(world.internet(), server);
        inside.send_to(b"?", server.local_addr().unwrap()).unwrap();
        let seen = receive(&server);
        if let Some(seen) = seen {
            server.send_to(b"!", seen).unwrap();
            assert!(receive(inside).is_some(), "the answer did not come back");
        }
        seen
    })
}

#[test]
fn ports_are_kept_or_not_as_the_kind_says() {
    if !can_make_namespaces("ports_are_kept_or_not_as_the_kind_says") {
        return;
    }
    let mut world = World::new().unwrap();
    for nat in [Nat::None, Nat::Easy, Nat::Hard, Nat::Blocked] {
        let site = world.add_site(nat).unwrap();
        let inside = socket(site.node(), site.address());
        let seen = seen_as(&world, &inside);
        match nat {
            Nat::None => assert_eq!(seen, [inside.local_addr().ok(); 2]),
            Nat::Easy => {
                assert!(seen[0].is_some() && seen[0] == seen[1], "{seen:?}");
                assert_ne!(seen[0], inside.local_addr().ok());
            }
            Nat::Hard => assert!(seen[0].is_some() && seen[0] != seen[1], "{seen:?}"),
            Nat::Blocked => assert_eq!(seen, [None, None]),
        }
    }
}

#[test]
fn who_was_not_talked_to_is_not_let_in_until_he_is() {
    if !can_make_namespaces("who_was_not_talked_to_is_not_let_in_until_he_is") {
        return;
    }
    let mut world = World::new().unwrap();
    let site = world.add_site(Nat::Easy).unwrap();
    let inside = socket(site.node(), site.address());
    let outer = seen_as(&world, &inside)[0].unwrap();
    let stranger = socket(world.internet(), World::SERVERS[0]);
    stranger.send_to(b"hello", outer).unwrap();
    assert_eq!(receive(&inside), None);
    let address = stranger.local_addr().unwrap();
    inside.send_to(b"hello", address).unwrap();
    // The port is still the same although the stranger knocked first.
    assert_eq!(receive(&stranger), Some(outer));
    stranger.send_to(b"hello", outer).unwrap();
    assert_eq!(receive(&inside), Some(address));
}

#[test]
fn what_is_cut_comes_back() {
    if !can_make_namespaces("what_is_cut_comes_back") {
        return;
    }
    let mut world = World::new().unwrap();
    let mut site = world.add_site(Nat::Easy).unwrap();
    let works = |site: &super::Site| {
        let inside = socket(site.node(), site.address());
        let server = socket(world.internet(), World::SERVERS[0]);
        // The network may be unreachable.
        let _ = inside.send_to(b"?", server.local_addr().unwrap());
        receive(&server).is_some()
    };
    assert!(works(&site));
    site.cut_udp(true).unwrap();
    assert!(!works(&site));
    site.cut_udp(false).unwrap();
    assert!(works(&site));
    site.set_plugged(false).unwrap();
    assert!(!works(&site));
    site.set_plugged(true).unwrap();
    site.wait_until_connected().unwrap();
    assert!(works(&site));
    site.change_address().unwrap();
    site.wait_until_connected().unwrap();
    assert!(works(&site));
}
