//! Engines over a real relay on loopback: TLS with a pin, STUN, frames, restarts.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::time::Duration;

use common::*;
use dataplane::{EngineEvent, Incoming, PingKind, PingRequest, TcpStream};
use keys::NodePrivate;
use rt::{OsRng, Task};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

const ANY: &str = "127.0.0.1:0";
const PATIENCE: Duration = Duration::from_secs(60);

async fn ping(nodes: &[Node], from: usize, to: usize, kind: PingKind) -> bool {
    let request = PingRequest {
        peer: id(to),
        address: ip(to),
        kind,
        size: 0,
    };
    nodes[from].engine.ping(request).await.is_ok()
}

/// Pings until one is answered.
async fn reachable(nodes: &[Node], from: usize, to: usize) {
    let answered = async { while !ping(nodes, from, to, PingKind::Disco).await {} };
    timeout(PATIENCE, answered).await.expect("the peer answers");
}

async fn connect(nodes: &mut [Node]) -> (TcpStream, TcpStream) {
    let dialer = nodes[0].engine.dialer().clone();
    let accept = async {
        match nodes[1].incoming.recv().await {
            Some(Incoming::Tcp(caller)) => caller.accept().await.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let dial = async { dialer.tcp((ip(1), 80).into()).await.unwrap() };
    timeout(PATIENCE, async { tokio::join!(dial, accept) })
        .await
        .expect("a connection")
}

/// Sends `len` bytes that a checksum would tell from any shift, and reads as many.
async fn pump(from: &mut TcpStream, to: &mut TcpStream, len: usize) {
    let byte = |i: usize| (i % 251) as u8 ^ (i / 65_537) as u8;
    let send = async {
        let mut at = 0;
        while at < len {
            let end = (at + 64 * 1024).min(len);
            let chunk: Vec<u8> = (at..end).map(byte).collect();
            from.write_all(&chunk).await.unwrap();
            at = end;
        }
        from.flush().await.unwrap();
    };
    let receive = async {
        let mut at = 0;
        let mut buffer = vec![0; 64 * 1024];
        while at < len {
            let n = to.read(&mut buffer).await.unwrap();
            assert_ne!(n, 0, "the stream ends at {at}");
            for (offset, got) in buffer[..n].iter().enumerate() {
                assert_eq!(*got, byte(at + offset), "byte {}", at + offset);
            }
            at += n;
        }
    };
    timeout(PATIENCE, async { tokio::join!(send, receive) })
        .await
        .expect("all bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_and_bytes_travel_by_the_relay() {
    let cert = SharedCert::new();
    let relay = relay(
        &NodePrivate::generate(&mut OsRng),
        ANY.parse().unwrap(),
        &cert,
    )
    .await;
    let mut nodes = nodes(2, &map(&relay)).await;
    for kind in [PingKind::Disco, PingKind::Tsmp, PingKind::Icmp] {
        assert!(ping(&nodes, 0, 1, kind).await, "{kind:?}");
        assert!(ping(&nodes, 1, 0, kind).await, "{kind:?}");
    }
    let (mut ours, mut theirs) = connect(&mut nodes).await;
    let started = rt::now();
    pump(&mut ours, &mut theirs, 8 << 20).await;
    pump(&mut theirs, &mut ours, 8 << 20).await;
    let seconds = rt::now().since(started).as_secs_f64();
    println!("16 MiB in {seconds:.2} s");
    let status = nodes[0].engine.status().await;
    assert_eq!(status.home_derp, REGION);
    assert!(status.derps[&REGION].connected);
    let peer = &status.peers[&nodes[1].key.public()];
    assert!(peer.last_handshake.is_some() && peer.tx_bytes > 8 << 20 && peer.rx_bytes > 8 << 20);
    let text = nodes[0].metrics.to_prometheus();
    assert!(
        text.contains("\ntailscaled_home_derp_region_id 900\n"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_comes_back_is_found_again() {
    let cert = SharedCert::new();
    let key = NodePrivate::generate(&mut OsRng);
    let first = relay(&key, ANY.parse().unwrap(), &cert).await;
    let (addr, map) = (first.addr, map(&first));
    let mut nodes = nodes(2, &map).await;
    let (mut ours, mut theirs) = connect(&mut nodes).await;
    pump(&mut ours, &mut theirs, 100_000).await;
    drop(first);
    for node in &mut nodes {
        wait_for(node, connected(false)).await;
    }
    let _second = relay(&key, addr, &cert).await;
    for node in &mut nodes {
        wait_for(node, connected(true)).await;
    }
    reachable(&nodes, 0, 1).await;
    pump(&mut ours, &mut theirs, 100_000).await;
    pump(&mut theirs, &mut ours, 100_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_engine_ends_its_streams_and_events() {
    let cert = SharedCert::new();
    let relay = relay(
        &NodePrivate::generate(&mut OsRng),
        ANY.parse().unwrap(),
        &cert,
    )
    .await;
    let mut nodes = nodes(2, &map(&relay)).await;
    let (mut ours, theirs) = connect(&mut nodes).await;
    let Node {
        engine, mut events, ..
    } = nodes.remove(0);
    drop(engine);
    let ended = timeout(PATIENCE, async {
        while events.recv().await.is_some() {}
        ours.read(&mut [0; 16]).await
    });
    assert!(matches!(ended.await, Ok(Err(_) | Ok(0))));
    drop(theirs);
}

async fn later(frozen: &mut tokio::sync::watch::Receiver<usize>, born: usize) {
    let _ = frozen.wait_for(|now| *now > born).await.map(|_| ());
}

/// A way to the relay whose old connections can go dead without being closed, as after a change of networks.
async fn way_to(
    relay: std::net::SocketAddr,
    frozen: tokio::sync::watch::Receiver<usize>,
) -> (u16, Task) {
    let listener = tokio::net::TcpListener::bind(ANY).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = Task::spawn("way", async move {
        let mut carried = Vec::new();
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = tokio::net::TcpStream::connect(relay).await.unwrap();
            let mut frozen = frozen.clone();
            let born = *frozen.borrow();
            carried.push(Task::spawn("carry", async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    () = later(&mut frozen, born) => std::future::pending().await,
                }
            }));
        }
    });
    (port, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_link_is_found_after_a_change_of_networks() {
    let cert = SharedCert::new();
    let key = NodePrivate::generate(&mut OsRng);
    let relay = relay(&key, ANY.parse().unwrap(), &cert).await;
    let (freeze, frozen) = tokio::sync::watch::channel(0);
    let (port, _way) = way_to(relay.addr, frozen).await;
    let mut map = (*map(&relay)).clone();
    for node in map
        .regions
        .values_mut()
        .flat_map(|region| &mut region.nodes)
    {
        node.derp_port = port;
    }
    let mut nodes = nodes(2, &map.into()).await;
    reachable(&nodes, 0, 1).await;
    // A link that lives passes the check.
    nodes[0].engine.link_changed(true);
    reachable(&nodes, 0, 1).await;
    freeze.send_replace(1);
    for node in &mut nodes {
        node.engine.link_changed(true);
        wait_for(node, connected(false)).await;
        wait_for(node, connected(true)).await;
    }
    reachable(&nodes, 0, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_stun_the_home_is_found_by_https() {
    let cert = SharedCert::new();
    let key = NodePrivate::generate(&mut OsRng);
    let relay = relay(&key, ANY.parse().unwrap(), &cert).await;
    let mut map = (*map(&relay)).clone();
    let region = map.regions.get_mut(&REGION).unwrap();
    region.nodes[0].stun_port = None;
    // Nearer by number, but nobody answers there.
    let mut dead = region.clone();
    dead.id = 1;
    dead.nodes[0].derp_port = 1;
    map.regions.insert(1, dead);
    let mut node = lone_node(&map.into());
    wait_for(&mut node, |event| *event == EngineEvent::HomeDerp(REGION)).await;
    wait_for(
        &mut node,
        |event| matches!(event, EngineEvent::NetInfo(info) if info.working_udp == Some(false)),
    )
    .await;
}

/// Nobody in between may make an engine spin or hold memory: a relay that says anything but the protocol.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_talks_nonsense_is_left_and_tried_again() {
    let listener = tokio::net::TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (seen, mut calls) = tokio::sync::mpsc::channel(64);
    let _nonsense = Task::spawn("nonsense", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = seen.send(()).await;
            let _ = stream.write_all(&[0x55; 4096]).await;
        }
    });
    let cert = SharedCert::new();
    let real = relay(
        &NodePrivate::generate(&mut OsRng),
        ANY.parse().unwrap(),
        &cert,
    )
    .await;
    let mut map = (*map(&real)).clone();
    for node in map
        .regions
        .values_mut()
        .flat_map(|region| &mut region.nodes)
    {
        node.derp_port = addr.port();
    }
    let mut node = lone_node(&map.into());
    wait_for(
        &mut node,
        |event| matches!(event, EngineEvent::DerpTrouble { text, .. } if !text.is_empty()),
    )
    .await;
    for _ in 0..3 {
        timeout(PATIENCE, calls.recv())
            .await
            .expect("another attempt");
    }
}
