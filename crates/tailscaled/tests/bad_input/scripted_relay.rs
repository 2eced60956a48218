//! A relay that says whatever a test wants, after the handshake of the real protocol.

use std::net::Ipv4Addr;

use derp::{ClientMessage, ServerDecoder, ServerHandshake, ServerInfo};
use keys::NodePrivate;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpListener;
use transport::Stream;
use transport::cert::ServerCert;

pub(crate) struct ScriptedRelay {
    listener: TcpListener,
    cert: ServerCert,
    key: NodePrivate,
}

/// A daemon's connection.
pub(crate) struct Caller {
    read: ReadHalf<Stream>,
    write: WriteHalf<Stream>,
    decoder: ServerDecoder,
}

impl ScriptedRelay {
    pub(crate) async fn start() -> Self {
        Self {
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
            cert: ServerCert::self_signed("127.0.0.1", rt::wall()).unwrap(),
            key: NodePrivate::generate(&mut rt::OsRng),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    pub(crate) fn pin(&self) -> String {
        self.cert.pin_text()
    }

    /// The next connection that asks for relaying; probes of other kinds are hung up on.
    pub(crate) async fn caller(&self) -> Caller {
        loop {
            if let Some(caller) = self.try_caller().await {
                return caller;
            }
        }
    }

    async fn try_caller(&self) -> Option<Caller> {
        let (tcp, _) = self.listener.accept().await.unwrap();
        let stream = self.cert.acceptor(&[]).unwrap().accept(tcp).await.ok()?;
        let (mut read, mut write) = tokio::io::split(Stream::new(stream));
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(read.read_u8().await.ok()?);
        }
        if !head.starts_with(b"GET /derp ") {
            return None;
        }
        write
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n",
            )
            .await
            .ok()?;
        let mut handshake = ServerHandshake::new(self.key.clone());
        write.write_all(&handshake.greeting()).await.ok()?;
        loop {
            if let Some(accepted) = handshake
                .poll(&ServerInfo::default(), &mut rt::OsRng)
                .unwrap()
            {
                write.write_all(&accepted.reply).await.ok()?;
                return Some(Caller {
                    read,
                    write,
                    decoder: accepted.decoder,
                });
            }
            let n = read
                .read(handshake.reader().room())
                .await
                .ok()
                .filter(|n| *n > 0)?;
            handshake.reader().filled(n);
        }
    }
}

impl Caller {
    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        self.write.write_all(bytes).await.unwrap();
        self.write.flush().await.unwrap();
    }

    /// Whether it answers a ping, and so has read all that came before.
    pub(crate) async fn answers(&mut self, data: [u8; 8]) -> bool {
        let mut ping = Vec::new();
        derp::put::ping(&mut ping, data);
        self.say(&ping).await;
        loop {
            while let Some(message) = self.decoder.poll().unwrap() {
                if message == ClientMessage::Pong(data) {
                    return true;
                }
            }
            match self.read.read(self.decoder.reader().room()).await {
                Ok(0) | Err(_) => return false,
                Ok(n) => self.decoder.reader().filled(n),
            }
        }
    }
}
