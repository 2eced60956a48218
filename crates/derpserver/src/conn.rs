//! One TCP connection: requests until it ends or becomes a relayed client's.

use std::net::SocketAddr;

use keys::encode_hex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::client;
use crate::limits;
use crate::page::{self, Route};
use crate::request::{HeadError, Response, read_head};
use crate::server::Shared;

/// Serves the main port.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    mut stream: S,
    addr: SocketAddr,
) {
    let mut buf = Vec::new();
    loop {
        let Ok(head) = timeout(limits::HTTP, read_head(&mut stream, &mut buf)).await else {
            return;
        };
        let head = match head {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(error) => return refuse(&mut stream, &error).await,
        };
        match page::route(&head, shared.derp, &shared.home) {
            Route::Answer(response) => {
                let close = response.close || !head.may_continue();
                let bytes = response.encode(head.method == "HEAD", close);
                if !send(&mut stream, &bytes).await || close {
                    return;
                }
            }
            Route::Derp { fast_start } => {
                if !fast_start && !send(&mut stream, &switching(shared)).await {
                    return;
                }
                if let Err(end) = client::serve(shared, stream, &buf).await
                    && shared.log_limit.allow(rt::now())
                {
                    tracing::info!("derp: {addr}: {end}");
                }
                return;
            }
        }
    }
}

/// Serves the plain port beside TLS.
pub(crate) async fn serve_plain<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let mut buf = Vec::new();
    while let Ok(head) = timeout(limits::HTTP, read_head(&mut stream, &mut buf)).await {
        let head = match head {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(error) => return refuse(&mut stream, &error).await,
        };
        let close = !head.may_continue();
        let bytes = page::route_plain(&head).encode(head.method == "HEAD", close);
        if !send(&mut stream, &bytes).await || close {
            return;
        }
    }
}

fn switching(shared: &Shared) -> Vec<u8> {
    let mut key = String::with_capacity(64);
    encode_hex(shared.private_key.public().as_bytes(), &mut key);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\nDerp-Version: {}\r\nDerp-Public-Key: \
         {key}\r\n\r\n",
        derp::PROTOCOL_VERSION
    )
    .into_bytes()
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> bool {
    let write = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    matches!(timeout(limits::HTTP, write).await, Ok(Ok(())))
}

async fn refuse(stream: &mut (impl AsyncWrite + Unpin), error: &HeadError) {
    let response = match error {
        HeadError::Broken => return,
        HeadError::TooLong => Response::error(
            (431, "Request Header Fields Too Large"),
            "request head is too long",
        ),
        HeadError::Malformed => Response::error((400, "Bad Request"), "malformed HTTP request"),
    };
    if send(stream, &response.encode(false, true)).await {
        let _ = timeout(limits::FAREWELL, stream.shutdown()).await;
    }
}
