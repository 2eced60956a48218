//! The relay on loopback, seen by clients of our own.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use common::{Client, Got, PATIENCE, private};
use derp::{FrameType, PeerGoneReason, put};
use derpserver::{Certificate, Config, DropReason, Server, Verify};
use netcheck::stun;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

fn any_port() -> SocketAddr {
    (LOOPBACK, 0).into()
}

async fn plain_server() -> Server {
    Server::start(Config::new(private(99))).await.unwrap()
}

fn disco(n: u8) -> Vec<u8> {
    let mut packet = b"TS\xf0\x9f\x92\xac".to_vec();
    packet.resize(100, n);
    packet
}

#[tokio::test]
async fn packets_pings_and_farewells() {
    let server = plain_server().await;
    let (a_key, b_key) = (private(1).public(), private(2).public());
    let mut a = Client::plain(server.addr, private(1)).await;
    let mut b = Client::plain(server.addr, private(2)).await;
    a.send_packet(&b_key, b"hello").await;
    assert_eq!(b.recv().await, Got::Packet(a_key, b"hello".to_vec()));
    let largest = vec![5; derp::MAX_PACKET_LEN];
    b.send_packet(&a_key, &largest).await;
    assert_eq!(a.recv().await, Got::Packet(b_key, largest));
    a.settle().await;
    // What means nothing to a relay does no harm.
    let mut odd = Vec::new();
    put::note_preferred(&mut odd, true);
    put::frame(&mut odd, FrameType(0x55), &[&[0; 100_000]]);
    put::pong(&mut odd, [1; 8]);
    put::send_packet(&mut odd, &b_key, b"").unwrap();
    a.send(&odd).await;
    assert_eq!(b.recv().await, Got::Packet(a_key, Vec::new()));
    drop(a);
    assert_eq!(
        b.recv().await,
        Got::Gone(a_key, PeerGoneReason::DISCONNECTED)
    );
    let stats = server.stats();
    assert_eq!((stats.accepts, stats.clients), (2, 1));
    assert_eq!((stats.packets_received, stats.packets_sent), (3, 3));
    assert_eq!(stats.bytes_sent, 5 + 65536);
    server.shutdown().await;
    assert_eq!(b.recv().await, Got::End);
}

#[tokio::test]
async fn absent_peers_are_reported_to_disco_only() {
    let server = plain_server().await;
    let mut a = Client::plain(server.addr, private(1)).await;
    let absent = private(3).public();
    a.send_packet(&absent, b"data").await;
    a.send_packet(&absent, &disco(1)).await;
    assert_eq!(a.recv().await, Got::Gone(absent, PeerGoneReason::NOT_HERE));
    for n in 0..20 {
        a.send_packet(&absent, &disco(n)).await;
    }
    a.settle().await;
    let stats = server.stats();
    assert_eq!(stats.dropped_for(DropReason::UnknownDest), 22);
    assert!(stats.peer_gone_sent < 10, "{}", stats.peer_gone_sent);
}

#[tokio::test]
async fn of_connections_with_one_key_the_last_to_speak_counts() {
    let server = plain_server().await;
    let mut peer = Client::plain(server.addr, private(1)).await;
    let mut old = Client::plain(server.addr, private(2)).await;
    let mut new = Client::plain(server.addr, private(2)).await;
    let key = private(2).public();
    peer.send_packet(&key, b"1").await;
    assert_eq!(
        new.recv().await,
        Got::Packet(private(1).public(), b"1".to_vec())
    );
    old.settle().await;
    peer.send_packet(&key, b"2").await;
    assert_eq!(
        old.recv().await,
        Got::Packet(private(1).public(), b"2".to_vec())
    );
    new.send_packet(&private(1).public(), b"3").await;
    assert_eq!(peer.recv().await, Got::Packet(key, b"3".to_vec()));
    drop(new);
    // Until the relay has noticed, packets may still go to the dead one.
    while server.stats().clients > 2 {
        tokio::task::yield_now().await;
    }
    peer.send_packet(&key, b"4").await;
    assert_eq!(
        old.recv().await,
        Got::Packet(private(1).public(), b"4".to_vec())
    );
    drop(old);
    assert_eq!(
        peer.recv().await,
        Got::Gone(key, PeerGoneReason::DISCONNECTED)
    );
}

#[tokio::test]
async fn mesh_frames_say_that_there_is_no_mesh() {
    let server = plain_server().await;
    let key = private(2).public();
    for n in 0..3 {
        let mut client = Client::plain(server.addr, private(1)).await;
        let mut out = Vec::new();
        match n {
            0 => put::watch_conns(&mut out),
            1 => put::close_peer(&mut out, &key),
            _ => put::forward_packet(&mut out, &key, &key, b"x").unwrap(),
        }
        client.send(&out).await;
        let Got::Health(text) = client.recv().await else {
            panic!("a reason");
        };
        assert!(text.contains("mesh: not built"), "{text}");
        assert_eq!(client.recv().await, Got::End);
    }
}

#[tokio::test]
async fn a_client_that_cannot_count_loses_only_itself() {
    let server = plain_server().await;
    let mut good = Client::plain(server.addr, private(1)).await;
    for frame in [
        &[0x04, 0, 0, 0, 3, 1, 2, 3][..],
        &[0x04, 0xff, 0, 0, 0],
        &[0x07, 0, 0, 0, 2, 1, 1],
        &[0x12, 0, 0, 0, 1, 1],
    ] {
        let mut bad = Client::plain(server.addr, private(2)).await;
        bad.send(frame).await;
        assert_eq!(bad.recv().await, Got::End);
    }
    for junk in [
        &b"\x16\x03\x01\x02\x00junk"[..],
        b"GET /derp HTTP/1.1\r\nUpgrade: derp\r\n\r\n\x02\0\0\0\x03abc",
    ] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(junk).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .unwrap();
    }
    good.settle().await;
}

#[tokio::test]
async fn tls_with_and_without_fast_start() {
    let certificate = Certificate::self_signed(LOOPBACK.into(), rt::wall()).unwrap();
    let pin = certificate.sha256();
    let server = Server::start(Config {
        certificate: Some(certificate),
        plain_http: Some(any_port()),
        ..Config::new(private(99))
    })
    .await
    .unwrap();
    assert_eq!(server.pin, Some(pin));
    let mut a = Client::tls(server.addr, pin, private(1)).await;
    let mut b = Client::slow_tls(server.addr, pin, private(2)).await;
    a.send_packet(&private(2).public(), b"fast").await;
    assert_eq!(
        b.recv().await,
        Got::Packet(private(1).public(), b"fast".to_vec())
    );
    let mut stream = TcpStream::connect(server.plain_addr.unwrap())
        .await
        .unwrap();
    stream
        .write_all(b"GET /generate_204 HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    assert!(
        text.starts_with("HTTP/1.1 204 ") && text.contains("Location: https://h/x"),
        "{text}"
    );
}

#[tokio::test]
async fn stun_tells_the_address_to_tailnet_nodes_only() {
    let server = Server::start(Config {
        stun: Some(any_port()),
        ..Config::new(private(99))
    })
    .await
    .unwrap();
    let socket = UdpSocket::bind(any_port()).await.unwrap();
    let to = server.stun_addr.unwrap();
    let tx = stun::TxId([4; 12]);
    socket.send_to(b"junk", to).await.unwrap();
    socket.send_to(&stun::request(tx)[..36], to).await.unwrap();
    socket.send_to(&stun::request(tx), to).await.unwrap();
    let mut buf = [0; 100];
    let n = timeout(PATIENCE, socket.recv(&mut buf))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        stun::parse_response(&buf[..n]),
        Ok((tx, socket.local_addr().unwrap()))
    );
    let stats = server.stats();
    assert_eq!((stats.stun_answered, stats.stun_refused), (1, 2));
}

#[tokio::test]
async fn a_receiver_that_does_not_read_is_dropped_from() {
    let server = plain_server().await;
    let slow = Client::plain(server.addr, private(2)).await;
    let mut a = Client::plain(server.addr, private(1)).await;
    let key = private(2).public();
    let packet = vec![1; 60_000];
    // More than the queue and both socket buffers can hold.
    let mut sent = 0;
    while server.stats().dropped_for(DropReason::QueueHead) == 0 {
        a.send_packet(&key, &packet).await;
        sent += 1;
        assert!(sent < 10_000);
    }
    a.settle().await;
    drop(slow);
}

#[tokio::test]
async fn idle_clients_hear_that_the_relay_lives() {
    let server = Server::start(Config {
        keep_alive: Duration::from_millis(20),
        ..Config::new(private(99))
    })
    .await
    .unwrap();
    let mut client = Client::plain(server.addr, private(1)).await;
    assert_eq!(client.recv().await, Got::KeepAlive);
    assert_eq!(client.recv().await, Got::KeepAlive);
}

#[tokio::test]
async fn a_receiver_that_never_reads_is_given_up() {
    let server = Server::start(Config {
        write_timeout: Some(Duration::from_millis(50)),
        ..Config::new(private(99))
    })
    .await
    .unwrap();
    let stuck = Client::plain(server.addr, private(2)).await;
    let mut a = Client::plain(server.addr, private(1)).await;
    let packet = vec![1; 60_000];
    while server.stats().clients == 2 {
        a.send_packet(&private(2).public(), &packet).await;
    }
    a.settle().await;
    assert!(server.stats().dropped_for(DropReason::WriteError) > 0);
    drop(stuck);
}

#[cfg(unix)]
#[tokio::test]
async fn clients_are_verified_by_a_local_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.sock");
    let server = |path: &Path| {
        let config = Config {
            verify: Verify::LocalDaemon(path.to_owned()),
            ..Config::new(private(99))
        };
        Server::start(config)
    };
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let known = private(1).public().to_string().replace(':', "%3A");
    let _daemon = rt::Task::spawn("daemon", async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buf = vec![0; 4096];
            let n = stream.read(&mut buf).await.unwrap();
            let text = String::from_utf8_lossy(&buf[..n]).into_owned();
            assert!(
                text.starts_with("GET /localapi/v0/whois?addr=nodekey%3A"),
                "{text}"
            );
            let answer = if text.contains(&known) {
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
            } else {
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let asking = server(&path).await.unwrap();
    Client::plain(asking.addr, private(1)).await.settle().await;
    let in_vain = server(&dir.path().join("none")).await.unwrap();
    for (server, key) in [(&asking, 2), (&in_vain, 1)] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream
            .write_all(b"GET /derp HTTP/1.1\r\nUpgrade: derp\r\nDerp-Fast-Start: 1\r\n\r\n")
            .await
            .unwrap();
        let mut handshake = derp::ClientHandshake::new(
            private(key),
            derp::ClientInfo::default(),
            Some(server.public_key()),
        );
        let hello = handshake.poll(&mut rt::OsRng).unwrap().unwrap();
        stream.write_all(&hello.frame).await.unwrap();
        let mut rest = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(rest.len(), 45, "the greeting and no more");
    }
}
