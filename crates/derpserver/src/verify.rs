//! Whether a client may use the relay.

use std::path::PathBuf;

use keys::NodePublic;

/// Who decides about clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Verify {
    /// Everybody may.
    #[default]
    Nobody,
    /// Nodes that the daemon behind this LocalAPI socket knows as its own or its peers.
    LocalDaemon(PathBuf),
}

/// Why a client may not.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The daemon does not know it.
    #[cfg_attr(not(unix), expect(dead_code, reason = "the socket is a unix socket"))]
    NotFound,
    /// The daemon could not be asked.
    CannotAsk(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound => f.write_str("not authorized (not found in local tailscaled)"),
            Self::CannotAsk(why) => write!(f, "failed to query local tailscaled: {why}"),
        }
    }
}

impl Verify {
    pub(crate) async fn check(&self, key: &NodePublic) -> Result<(), Refused> {
        match self {
            Self::Nobody => Ok(()),
            Self::LocalDaemon(socket) => ask(socket, key).await,
        }
    }
}

#[cfg(unix)]
async fn ask(socket: &std::path::Path, key: &NodePublic) -> Result<(), Refused> {
    let status = tokio::time::timeout(crate::limits::HANDSHAKE, whois_status(socket, key))
        .await
        .map_err(|_| Refused::CannotAsk("timed out".to_owned()))?
        .map_err(|error| Refused::CannotAsk(format!("{}: {error}", socket.display())))?;
    match status.as_str() {
        "200" => Ok(()),
        "404" => Err(Refused::NotFound),
        other => Err(Refused::CannotAsk(format!("status {other}"))),
    }
}

/// The status code of a `whois` request. The rest of the answer does not matter.
#[cfg(unix)]
async fn whois_status(socket: &std::path::Path, key: &NodePublic) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::UnixStream::connect(socket).await?;
    let request = format!(
        "GET /localapi/v0/whois?addr={} HTTP/1.1\r\nHost: local-tailscaled.sock\r\nConnection: close\r\n\r\n",
        key.to_string().replace(':', "%3A")
    );
    stream.write_all(request.as_bytes()).await?;
    let mut line = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut line).await?;
    let line = String::from_utf8_lossy(&line);
    Ok(line.rsplit(' ').next().unwrap_or_default().to_owned())
}

#[cfg(not(unix))]
async fn ask(_socket: &std::path::Path, _key: &NodePublic) -> Result<(), Refused> {
    Err(Refused::CannotAsk(
        "verifying clients: not built for this system".to_owned(),
    ))
}
