//! A relay client for tests: the derp machines driven by tokio.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses its own part; what fails here fails the test"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use derp::{
    ClientDecoder, ClientHandshake, ClientInfo, FamilyAddr, Node, NodeCert, PeerGoneReason, Region,
    ServerInfo, ServerMessage, put,
};
use keys::{NodePrivate, NodePublic};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use transport::derp::DerpDialOptions;
use transport::{DialConfig, Dialer};

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn private(byte: u8) -> NodePrivate {
    NodePrivate::from_bytes([byte; 32])
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    Info(ServerInfo),
    Packet(NodePublic, Vec<u8>),
    KeepAlive,
    Gone(NodePublic, PeerGoneReason),
    Pong([u8; 8]),
    Health(String),
    Other,
    End,
}

pub(crate) struct Client {
    pub(crate) stream: Box<dyn Stream>,
    decoder: ClientDecoder,
}

impl Client {
    /// Over plain TCP, with the ordinary upgrade.
    pub(crate) async fn plain(addr: SocketAddr, key: NodePrivate) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        Self::upgrade(Box::new(stream), key, ClientInfo::default()).await
    }

    /// Over TLS with a pin, as a daemon dials: with fast start if the certificate allows it.
    pub(crate) async fn tls(addr: SocketAddr, pin: [u8; 32], key: NodePrivate) -> Self {
        let region = region(addr, pin);
        let dialer = Dialer::new(DialConfig::default());
        let dialled = transport::derp::dial(&dialer, &region, DerpDialOptions::default()).await;
        let dialled = dialled.unwrap();
        assert!(dialled.server.is_some(), "the certificate tells the key");
        let mut stream = dialled.stream;
        let mut handshake = ClientHandshake::new(key, ClientInfo::default(), dialled.server);
        let hello = handshake.poll(&mut rt::OsRng).unwrap().unwrap();
        stream.write_all(&hello.frame).await.unwrap();
        let mut client = Self {
            stream: Box::new(stream),
            decoder: hello.decoder,
        };
        assert_eq!(client.recv().await, Got::Other, "the greeting");
        assert!(matches!(client.recv().await, Got::Info(_)));
        client
    }

    /// Over TLS with the ordinary upgrade.
    pub(crate) async fn slow_tls(addr: SocketAddr, pin: [u8; 32], key: NodePrivate) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        let host = addr.ip().to_string();
        let roots = Arc::new(transport::tls::Roots::default());
        let verify = transport::tls::Verify::Pin(pin);
        let stream = transport::Stream::new(stream);
        let stream = transport::tls::connect(stream, &host, verify, &roots)
            .await
            .unwrap();
        Self::upgrade(Box::new(stream), key, ClientInfo::default()).await
    }

    pub(crate) async fn upgrade(
        mut stream: Box<dyn Stream>,
        key: NodePrivate,
        info: ClientInfo,
    ) -> Self {
        stream
            .write_all(
                b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n",
            )
            .await
            .unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        let text = String::from_utf8(seen).unwrap();
        assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
        let mut handshake = ClientHandshake::new(key, info, None);
        let hello = loop {
            if let Some(hello) = handshake.poll(&mut rt::OsRng).unwrap() {
                break hello;
            }
            let n = stream.read(handshake.reader().room()).await.unwrap();
            assert_ne!(n, 0);
            handshake.reader().filled(n);
        };
        let mut key = String::new();
        keys::encode_hex(hello.decoder.server().as_bytes(), &mut key);
        assert!(
            text.contains(&format!("Derp-Public-Key: {key}\r\n")),
            "{text}"
        );
        stream.write_all(&hello.frame).await.unwrap();
        let mut client = Self {
            stream,
            decoder: hello.decoder,
        };
        assert!(matches!(client.recv().await, Got::Info(_)));
        client
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub(crate) async fn send_packet(&mut self, dst: &NodePublic, packet: &[u8]) {
        let mut out = Vec::new();
        put::send_packet(&mut out, dst, packet).unwrap();
        self.send(&out).await;
    }

    /// Everything sent before has been handled when this returns. Packets and notices that come meanwhile are lost.
    pub(crate) async fn settle(&mut self) {
        let mut out = Vec::new();
        put::ping(&mut out, [7; 8]);
        self.send(&out).await;
        loop {
            match self.recv().await {
                Got::Pong(data) => return assert_eq!(data, [7; 8]),
                Got::End => panic!("connection ended"),
                _ => {}
            }
        }
    }

    pub(crate) async fn recv(&mut self) -> Got {
        timeout(PATIENCE, self.next()).await.expect("a message")
    }

    async fn next(&mut self) -> Got {
        loop {
            if let Some(message) = self.decoder.poll().unwrap() {
                return match message {
                    ServerMessage::Info(info) => Got::Info(info),
                    ServerMessage::Packet { src, packet } => Got::Packet(src, packet.to_vec()),
                    ServerMessage::KeepAlive => Got::KeepAlive,
                    ServerMessage::PeerGone { peer, reason } => Got::Gone(peer, reason),
                    ServerMessage::Pong(data) => Got::Pong(data),
                    ServerMessage::Health(text) => Got::Health(text.into_owned()),
                    _ => Got::Other,
                };
            }
            match self.stream.read(self.decoder.reader().room()).await {
                Ok(0) | Err(_) => return Got::End,
                Ok(n) => self.decoder.reader().filled(n),
            }
        }
    }
}

fn region(addr: SocketAddr, pin: [u8; 32]) -> Region {
    let node = Node {
        name: "1a".to_owned(),
        host: addr.ip().to_string(),
        cert_name: NodeCert::Sha256(pin),
        ipv4: FamilyAddr::Ip(Ipv4Addr::LOCALHOST),
        ipv6: FamilyAddr::None,
        derp_port: addr.port(),
        ..Node::default()
    };
    Region {
        id: 1,
        nodes: vec![node],
        ..Region::default()
    }
}
