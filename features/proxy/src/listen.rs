//! Listening, and telling the two protocols apart.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use node::Dial;
use tokio::net::{TcpListener, TcpStream};

use crate::{http, socks};

/// How long a client of a shared port may take for its first byte.
const FIRST_BYTE: Duration = Duration::from_secs(15);
/// Clients at once, on one listener.
const MAX_CLIENTS: usize = 16384;

/// What a listener's clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// SOCKS5.
    Socks,
    /// HTTP.
    Http,
    /// The first byte tells.
    Both,
}

/// Listens on `[host]:port`. Like Go: no host means every address of both families, and of a name's addresses the first
/// of IPv4 is taken.
pub(crate) fn bind(address: &str) -> io::Result<TcpListener> {
    let listener = match address.strip_prefix(':') {
        Some(port) => std::net::TcpListener::bind(format!("[::]:{port}"))
            .or_else(|_| std::net::TcpListener::bind(format!("0.0.0.0:{port}")))?,
        None => {
            let found: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
            let first = found.iter().find(|a| a.is_ipv4()).or_else(|| found.first());
            std::net::TcpListener::bind(first.ok_or(io::ErrorKind::NotFound)?)?
        }
    };
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

pub(crate) async fn run(listener: TcpListener, speaks: Speaks, dial: Arc<dyn Dial>) {
    let mut clients: Vec<rt::Task> = Vec::new();
    let mut sweep_at = 64;
    loop {
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                // Out of file descriptors, usually: they come back only with time.
                tracing::warn!("proxy: accepting a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if clients.len() >= sweep_at {
            clients.retain(|task| !task.is_finished());
            sweep_at = (clients.len() * 2).max(64);
        }
        if clients.len() >= MAX_CLIENTS {
            tracing::debug!("proxy: closing a connection: {} are open", clients.len());
            continue;
        }
        let dial = dial.clone();
        clients.push(rt::Task::spawn(
            "proxy client",
            serve_client(client, speaks, dial),
        ));
    }
}

async fn serve_client(client: TcpStream, speaks: Speaks, dial: Arc<dyn Dial>) {
    // Small messages must not wait for each other; bulk is written in large pieces anyway.
    let _ = client.set_nodelay(true);
    let socks = match speaks {
        Speaks::Socks => true,
        Speaks::Http => false,
        Speaks::Both => match first_byte(&client).await {
            Some(byte) => byte == socks::VERSION,
            None => return,
        },
    };
    let ended = match socks {
        true => socks::serve(client, &*dial).await,
        false => http::serve(client, dial).await,
    };
    if let Err(error) = ended {
        tracing::debug!("proxy client: {error}");
    }
}

/// Looks at the first byte without taking it.
async fn first_byte(client: &TcpStream) -> Option<u8> {
    let mut byte = [0];
    match tokio::time::timeout(FIRST_BYTE, client.peek(&mut byte)).await {
        Ok(Ok(1)) => Some(byte[0]),
        _ => None,
    }
}
