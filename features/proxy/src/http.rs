//! The HTTP proxy: CONNECT, and requests for absolute URLs.

mod forward;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use node::{Dial, Stream as NodeStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use transport::Stream;
use transport::head::{Head, read_head};
use transport::server::{Limits, Peer, serve_connection};

use crate::relay::relay;

const CONNECT: &[u8] = b"CONNECT ";
/// Between two requests of a client.
const HEAD_LIMIT: Duration = Duration::from_secs(120);
const LIMITS: Limits = Limits {
    connections: usize::MAX,
    connections_per_user: usize::MAX,
    headers: 128,
    head_len: 256 << 10,
    head_timeout: HEAD_LIMIT,
};

/// Serves one client.
///
/// CONNECT is answered by hand, because its answer consists of exactly one line; all else is the HTTP library's affair.
pub(crate) async fn serve(client: TcpStream, dial: Arc<dyn Dial>) -> io::Result<()> {
    let peer = Peer {
        address: client.peer_addr().ok(),
        local: client.local_addr().ok(),
        credentials: None,
    };
    let mut client = Stream::new(client);
    loop {
        let start = tokio::time::timeout(HEAD_LIMIT, read_start(&mut client));
        let start = start.await.map_err(|_| io::ErrorKind::TimedOut)??;
        if start.is_empty() {
            return Ok(());
        }
        let connects = start.starts_with(CONNECT);
        client = client.unread(start);
        if !connects {
            break;
        }
        match connect(client, &*dial).await? {
            Some(refused) => client = refused,
            None => return Ok(()),
        }
    }
    let (_running, stopped) = watch::channel(false);
    serve_connection(client, peer, &LIMITS, stopped, &move |peer, request| {
        forward::handle(peer, request, dial.clone())
    })
    .await;
    Ok(())
}

/// Reads just enough to tell a CONNECT from other requests; nothing at the end of the stream.
async fn read_start(client: &mut Stream) -> io::Result<Bytes> {
    let mut start = Vec::with_capacity(CONNECT.len());
    while CONNECT.starts_with(&start) && start.len() < CONNECT.len() {
        let mut byte = [0; CONNECT.len()];
        let space = byte.get_mut(start.len()..).unwrap_or_default();
        let n = client.read(space).await?;
        if n == 0 {
            break;
        }
        start.extend_from_slice(space.get(..n).unwrap_or_default());
    }
    Ok(start.into())
}

/// Answers one CONNECT. Gives the client back if there is no tunnel; it may try another.
async fn connect(client: Stream, dial: &dyn Dial) -> io::Result<Option<Stream>> {
    let head = tokio::time::timeout(HEAD_LIMIT, read_head(client, "proxy client"));
    let (head, mut client) = match head.await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => return Err(io::Error::other(error)),
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    let Head {
        start: [_, target, _],
        ..
    } = head;
    match dial_target(&target, dial).await {
        Ok(stream) => {
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            relay(client, stream).await.map(|()| None)
        }
        Err(error) => {
            client.write_all(&refusal(&error.to_string())).await?;
            Ok(Some(client))
        }
    }
}

/// Connects to `host:port`.
async fn dial_target(target: &str, dial: &dyn Dial) -> io::Result<Box<dyn NodeStream>> {
    let (host, port) = split_target(target).ok_or_else(|| {
        io::Error::other(format!(
            "address {}: no host and port",
            target.escape_debug()
        ))
    })?;
    dial.tcp(host, port).await
}

/// Splits `host:port` or `[ip]:port`.
pub(crate) fn split_target(target: &str) -> Option<(&str, u16)> {
    let (host, port) = target.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.is_empty()).then_some((host, port))
}

/// Compat: the status and the field that the originals answer a failed CONNECT with.
fn refusal(error: &str) -> Vec<u8> {
    let error = one_line(error);
    format!(
        "HTTP/1.1 500 Internal Server Error\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Tailscale-Connect-Error: {error}\r\n\
         X-Content-Type-Options: nosniff\r\n\
         Content-Length: {}\r\n\r\n{error}\n",
        error.len() + 1
    )
    .into_bytes()
}

/// Printable ASCII only: the text goes into a header field.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c == ' ' || c.is_ascii_graphic() {
                c
            } else {
                '?'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn targets() {
        assert_eq!(split_target("host:80"), Some(("host", 80)));
        assert_eq!(split_target("[fd7a::1]:443"), Some(("fd7a::1", 443)));
        for bad in [
            "",
            "host",
            "host:",
            ":80",
            "host:65536",
            "fd7a::1:80",
            "[::1]",
            "[::1:80",
            "host:http",
        ] {
            assert_eq!(split_target(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_error_breaks_out_of_its_header(text in "\\PC*|[\r\n a-z]*") {
            let answer = String::from_utf8(refusal(&text)).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            prop_assert_eq!(head.lines().count(), 5);
            let declared = format!("Content-Length: {}", body.len());
            prop_assert!(head.ends_with(&declared));
        }

        #[test]
        fn any_target_is_survived(text in "\\PC*") {
            let _ = split_target(&text);
        }
    }
}
