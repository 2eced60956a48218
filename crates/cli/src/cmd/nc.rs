//! `tailscale nc`.

use goflag::{Parsed, quote};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::need_running;
use crate::command::{Context, Error};

/// Bytes read at once in either direction.
const CHUNK: usize = 32 * 1024;

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let status = context.status_or_hint(true).await?;
    need_running(context, &status)?;
    let [host, port] = parsed.args() else {
        return Err("usage: tailscale nc <hostname-or-IP> <port>".into());
    };
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let port: u16 = port
        .parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| format!("invalid port number {}", quote(port)))?;
    let stream = context
        .dial_tcp(host, port)
        .await
        .map_err(|error| format!("Dial({}, {port}): {error}", quote(host)))?;
    let (mut from_peer, mut to_peer) = tokio::io::split(stream);
    let (mut received, mut typed) = (vec![0; CHUNK], vec![0; CHUNK]);
    // Compat: the end of either direction ends the program.
    loop {
        tokio::select! {
            read = from_peer.read(&mut received) => {
                match read.map_err(|error| error.to_string())? {
                    0 => return Ok(()),
                    n => write_out(context, &received[..n])?,
                }
            }
            read = context.io.stdin.read(&mut typed) => {
                match read.map_err(|error| error.to_string())? {
                    0 => return Ok(()),
                    n => {
                        to_peer.write_all(&typed[..n]).await.map_err(|error| error.to_string())?;
                        to_peer.flush().await.map_err(|error| error.to_string())?;
                    }
                }
            }
        }
    }
}

fn write_out(context: &mut Context<'_>, bytes: &[u8]) -> Result<(), Error> {
    context
        .io
        .stdout
        .write_all(bytes)
        .and_then(|()| context.io.stdout.flush())
        .map_err(Error::Stdout)
}
