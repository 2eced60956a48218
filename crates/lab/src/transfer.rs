//! Moving bytes through the tunnel and checking that they are the same at the other end.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::digest;
use rt::Task;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::netns::Site;

const CHUNK: usize = 64 << 10;
const DIGEST_LEN: usize = 32;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Receives streams on a loopback port: eight bytes of length, the bytes, and answers with their SHA-256. Nodes forward
/// what reaches their tailnet address at this port.
#[derive(Debug)]
pub struct Sink {
    port: u16,
    _task: Task,
}

impl Sink {
    /// Listens on a free port.
    pub async fn start() -> io::Result<Self> {
        Self::serve(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?)
    }

    /// Listens on a free port of all addresses of a site's node.
    pub(crate) fn start_at(site: &Site) -> Result<Self> {
        let bind = || std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0));
        let listener = site.node().run(bind)??;
        listener.set_nonblocking(true)?;
        Ok(Self::serve(TcpListener::from_std(listener)?)?)
    }

    fn serve(listener: TcpListener) -> io::Result<Self> {
        let port = listener.local_addr()?.port();
        let task = Task::spawn("lab sink", async move {
            while let Ok((stream, _)) = listener.accept().await {
                Task::spawn_fallible("lab receiver", receive(stream)).detach();
            }
        });
        Ok(Self { port, _task: task })
    }

    /// The port, on loopback and through every node.
    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn receive(mut stream: TcpStream) -> io::Result<()> {
    let mut left = stream.read_u64().await?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let len = stream.read(&mut chunk[..room]).await?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&chunk[..len]);
        left -= len as u64;
    }
    stream.write_all(hash.finish().as_ref()).await?;
    stream.shutdown().await
}

/// What came of one transfer.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Bytes moved.
    pub bytes: u64,
    /// From the first byte to the receiver's answer.
    pub elapsed: Duration,
    /// Whether the receiver saw the same bytes.
    pub checksums_match: bool,
}

/// Sends `len` bytes to a [`Sink`] at `target` through the SOCKS5 proxy at `proxy`.
pub async fn push(
    proxy: SocketAddr,
    target: SocketAddr,
    len: u64,
    progress: impl FnMut(u64),
) -> Result<Sent> {
    push_over(socks5_connect(proxy, target).await?, len, progress).await
}

/// Sends `len` bytes to a [`Sink`] at `target`, as a program of a site's node.
pub(crate) async fn push_from(
    site: &Site,
    target: SocketAddr,
    len: u64,
    progress: impl FnMut(u64),
) -> Result<Sent> {
    let connect = || std::net::TcpStream::connect_timeout(&target, CONNECT_LIMIT);
    // A thread of its own waits, and this one with it: nothing else of the lab is to be done meanwhile.
    let stream = tokio::task::block_in_place(|| site.node().run(connect))?;
    let stream = stream.with_context(|| format!("connect to {target}"))?;
    stream.set_nonblocking(true)?;
    push_over(TcpStream::from_std(stream)?, len, progress).await
}

async fn push_over(mut stream: TcpStream, len: u64, mut progress: impl FnMut(u64)) -> Result<Sent> {
    let start = rt::now();
    stream.write_u64(len).await?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut chunk = vec![0; CHUNK];
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut sent = 0;
    while sent < len {
        let room = usize::try_from(len - sent).unwrap_or(CHUNK).min(CHUNK);
        noise.fill(&mut chunk);
        hash.update(&chunk[..room]);
        stream.write_all(&chunk[..room]).await.context("send")?;
        sent += room as u64;
        progress(sent);
    }
    let mut answer = [0; DIGEST_LEN];
    stream
        .read_exact(&mut answer)
        .await
        .context("wait for the receiver's checksum")?;
    let elapsed = rt::now().since(start);
    Ok(Sent {
        bytes: len,
        elapsed,
        checksums_match: hash.finish().as_ref() == answer,
    })
}

/// Bytes that no compression or repetition could hide a fault in (xorshift).
struct Noise(u64);

impl Noise {
    fn fill(&mut self, chunk: &mut [u8]) {
        for word in chunk.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_le_bytes()[..word.len()]);
        }
    }
}

/// RFC 1928, CONNECT without authentication.
async fn socks5_connect(proxy: SocketAddr, target: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy)
        .await
        .with_context(|| format!("connect to the SOCKS5 proxy {proxy}"))?;
    stream.set_nodelay(true)?;
    let mut request = vec![5, 1, 0, 5, 1, 0];
    match target {
        SocketAddr::V4(v4) => {
            request.push(1);
            request.extend(v4.ip().octets());
        }
        SocketAddr::V6(v6) => {
            request.push(4);
            request.extend(v6.ip().octets());
        }
    }
    request.extend(target.port().to_be_bytes());
    stream.write_all(&request[..3]).await?;
    let mut method = [0; 2];
    stream.read_exact(&mut method).await?;
    ensure!(
        method == [5, 0],
        "the proxy refuses anonymous use: {method:?}"
    );
    stream.write_all(&request[3..]).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    ensure!(
        head[1] == 0,
        "the proxy cannot connect to {target}: code {}",
        head[1]
    );
    let rest = match head[3] {
        1 => 4 + 2,
        4 => 16 + 2,
        3 => usize::from(stream.read_u8().await?) + 2,
        other => anyhow::bail!("the proxy answers with an unknown address type {other}"),
    };
    let mut bound = vec![0; rest];
    stream.read_exact(&mut bound).await?;
    Ok(stream)
}
