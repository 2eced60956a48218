//! Our side of the protocol against the originals' relay.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::net::SocketAddr;

use common::{Client, Got, PATIENCE, private};
use derp::{NodeCert, PeerGoneReason};
use netcheck::stun;
use testkit::originals::{Derper, go_derper};
use tokio::net::UdpSocket;
use tokio::time::timeout;

fn pin(relay: &Derper) -> [u8; 32] {
    match NodeCert::from_wire(relay.cert_name()) {
        NodeCert::Sha256(pin) => pin,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn our_client_and_the_original_relay() {
    let Some(relay) = go_derper("our_client_and_the_original_relay") else {
        return;
    };
    let addr = SocketAddr::from(([127, 0, 0, 1], relay.port()));
    let (a_key, b_key) = (private(1).public(), private(2).public());
    let mut a = Client::tls(addr, pin(&relay), private(1)).await;
    let mut b = Client::slow_tls(addr, pin(&relay), private(2)).await;
    a.settle().await;
    b.settle().await;
    let largest = vec![9; derp::MAX_PACKET_LEN];
    a.send_packet(&b_key, &largest).await;
    assert_eq!(b.recv().await, Got::Packet(a_key, largest));
    b.send_packet(&a_key, b"back").await;
    assert_eq!(a.recv().await, Got::Packet(b_key, b"back".to_vec()));
    let mut disco = b"TS\xf0\x9f\x92\xac".to_vec();
    disco.resize(80, 1);
    let absent = private(3).public();
    a.send_packet(&absent, &disco).await;
    assert_eq!(a.recv().await, Got::Gone(absent, PeerGoneReason::NOT_HERE));
    drop(b);
    assert_eq!(
        a.recv().await,
        Got::Gone(b_key, PeerGoneReason::DISCONNECTED)
    );
}

#[tokio::test]
async fn the_original_relay_refuses_what_ours_refuses() {
    let Some(relay) = go_derper("the_original_relay_refuses_what_ours_refuses") else {
        return;
    };
    let addr = SocketAddr::from(([127, 0, 0, 1], relay.port()));
    for frame in [
        &[0x04, 0, 0, 0, 3, 1, 2, 3][..],
        &[0x07, 0, 0, 0, 2, 1, 1],
        &[0x10, 0, 0, 0, 0],
        &[0x12, 0, 0, 0, 1, 1],
    ] {
        let mut client = Client::tls(addr, pin(&relay), private(2)).await;
        client.send(frame).await;
        assert_eq!(client.recv().await, Got::End);
    }
}

#[tokio::test]
async fn the_original_stun_server_answers_us() {
    let Some(relay) = go_derper("the_original_stun_server_answers_us") else {
        return;
    };
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let tx = stun::TxId([7; 12]);
    let to = ("127.0.0.1", relay.stun_port());
    socket.send_to(&stun::request(tx), to).await.unwrap();
    let mut buf = [0; 100];
    let n = timeout(PATIENCE, socket.recv(&mut buf)).await;
    let n = n.unwrap().unwrap();
    assert_eq!(
        stun::parse_response(&buf[..n]),
        Ok((tx, socket.local_addr().unwrap()))
    );
}
