//! Each kind of NAT does what its name says. These need root.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::{Nat, Netns, World};

/// Says so if this machine cannot make namespaces.
fn can_make_namespaces(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    testkit::originals::skip(test, "only root can make network namespaces");
    false
}

fn socket(space: &Netns, at: Ipv4Addr) -> UdpSocket {
    let socket = space.run(|| UdpSocket::bind((at, 0)).unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// For what must arrive.
const PATIENCE: Duration = Duration::from_secs(5);
/// For what must not.
const SILENCE: Duration = Duration::from_millis(200);

fn hears_nothing(socket: &UdpSocket) -> bool {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let heard = receive(socket);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    heard.is_none()
}

fn receive(socket: &UdpSocket) -> Option<SocketAddr> {
    let mut buffer = [0; 16];
    socket.recv_from(&mut buffer).ok().map(|(_, from)| from)
}

/// The addresses from which a site's socket is seen by two servers, whose answers come back.
fn seen_as(world: &World, inside: &UdpSocket) -> [SocketAddr; 2] {
    World::SERVERS.map(|server| {
        let server = socket(world.internet(), server);
        inside.send_to(b"?", server.local_addr().unwrap()).unwrap();
        let seen = receive(&server).unwrap();
        server.send_to(b"!", seen).unwrap();
        assert_eq!(receive(inside), server.local_addr().ok());
        seen
    })
}

#[test]
fn ports_are_kept_or_not_as_the_kind_says() {
    if !can_make_namespaces("ports_are_kept_or_not_as_the_kind_says") {
        return;
    }
    let mut world = World::new().unwrap();
    for nat in [Nat::None, Nat::Easy, Nat::Hard] {
        let site = world.add_site(nat).unwrap();
        let inside = socket(site.node(), site.address());
        let own = inside.local_addr().unwrap();
        let seen = seen_as(&world, &inside);
        assert_eq!(seen[0] == own, nat == Nat::None, "{nat}: {seen:?}");
        assert_eq!(seen[0] == seen[1], nat != Nat::Hard, "{nat}: {seen:?}");
    }
    let site = world.add_site(Nat::Blocked).unwrap();
    let inside = socket(site.node(), site.address());
    let server = socket(world.internet(), World::SERVERS[0]);
    inside.send_to(b"?", server.local_addr().unwrap()).unwrap();
    assert!(hears_nothing(&server));
}

#[test]
fn who_was_not_talked_to_is_not_let_in_until_he_is() {
    if !can_make_namespaces("who_was_not_talked_to_is_not_let_in_until_he_is") {
        return;
    }
    let mut world = World::new().unwrap();
    let site = world.add_site(Nat::Easy).unwrap();
    let inside = socket(site.node(), site.address());
    let outer = seen_as(&world, &inside)[0];
    let stranger = socket(world.internet(), World::SERVERS[0]);
    stranger.send_to(b"hello", outer).unwrap();
    assert!(hears_nothing(&inside));
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
    let site = world.add_site(Nat::Easy).unwrap();
    let works = |site: &super::Site| {
        let inside = socket(site.node(), site.address());
        let server = socket(world.internet(), World::SERVERS[0]);
        (0..5).any(|_| {
            // The network may be unreachable.
            let _ = inside.send_to(b"?", server.local_addr().unwrap());
            !hears_nothing(&server)
        })
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
    for _ in 0..3 {
        site.change_address().unwrap();
        site.wait_until_connected().unwrap();
        assert!(works(&site));
    }
}
