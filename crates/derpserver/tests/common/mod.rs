//! A relay client for tests: the derp machines driven by tokio.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses its own part; what fails here fails the test"
)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use derp::{
    ClientDecoder, ClientHandshake, ClientInfo, PeerGoneReason, ServerInfo, ServerMessage, put,
};
use keys::{NodePrivate, NodePublic};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

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

    /// Over TLS; with `fast_start` as the certificate says.
    pub(crate) async fn tls(addr: SocketAddr, key: NodePrivate, fast_start: bool) -> Self {
        let (stream, chain) = tls(addr).await;
        if !fast_start {
            return Self::upgrade(stream, key, ClientInfo::default()).await;
        }
        let server = derp::meta_cert_key(chain.last().unwrap()).expect("a meta certificate");
        let mut stream = stream;
        let mut handshake = ClientHandshake::new(key, ClientInfo::default(), Some(server));
        let hello = handshake.poll(&mut rt::OsRng).unwrap().unwrap();
        let mut bytes =
            b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\nDerp-Fast-Start: 1\r\n\r\n".to_vec();
        bytes.extend_from_slice(&hello.frame);
        stream.write_all(&bytes).await.unwrap();
        let mut client = Self {
            stream,
            decoder: hello.decoder,
        };
        assert_eq!(client.recv().await, Got::Other, "the greeting");
        assert!(matches!(client.recv().await, Got::Info(_)));
        client
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

/// A TLS connection that accepts any certificate, and the chain that was shown.
pub(crate) async fn tls(addr: SocketAddr) -> (Box<dyn Stream>, Vec<CertificateDer<'static>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything(seen.clone())))
        .with_no_client_auth();
    let stream = TcpStream::connect(addr).await.unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(ServerName::from(addr.ip()), stream)
        .await
        .unwrap();
    let chain = seen.lock().unwrap().clone();
    (Box::new(stream), chain)
}

#[derive(Debug)]
struct Anything(Arc<Mutex<Vec<CertificateDer<'static>>>>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(leaf).chain(rest);
        *self.0.lock().unwrap() = chain.map(|c| c.clone().into_owned()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA256,
        ]
    }
}
