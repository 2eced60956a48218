//! SOCKS5 (RFC 1928) without authentication: CONNECT and UDP ASSOCIATE.

pub(crate) mod message;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use node::Dial;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::relay::relay;
use message::{Command, Greeting, Incomplete, MAX_REQUEST, Reply, Request, Target};

pub(crate) use message::VERSION;

const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// For the greeting and the request together. The originals wait for ever.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(60);

/// Serves one client.
pub(crate) async fn serve(mut client: TcpStream, dial: &dyn Dial) -> io::Result<()> {
    let asked = tokio::time::timeout(HANDSHAKE_LIMIT, handshake(&mut client)).await;
    let Some(request) = asked.map_err(|_| io::ErrorKind::TimedOut)?? else {
        return Ok(());
    };
    match request.command {
        Command::Connect => connect(client, &request.target, dial).await,
        Command::UdpAssociate => udp::associate(client, dial).await,
        Command::Other => answer(&mut client, Reply::CommandNotSupported, None).await,
    }
}

/// Reads what the client wants. `None` if it was turned away.
async fn handshake(client: &mut TcpStream) -> io::Result<Option<Request>> {
    let mut buffer = Vec::with_capacity(MAX_REQUEST);
    let greeting = read_message(client, &mut buffer, Greeting::parse).await?;
    if !greeting.is_some_and(|greeting| greeting.offers_no_authentication) {
        client.write_all(&message::NO_ACCEPTABLE_METHOD).await?;
        return Ok(None);
    }
    client.write_all(&message::NO_AUTHENTICATION).await?;
    let request = read_message(client, &mut buffer, Request::parse).await?;
    if request.is_none() {
        answer(client, Reply::GeneralFailure, None).await?;
    }
    Ok(request)
}

/// Reads until `parse` has a whole message, which is taken out of the buffer. `None` if the bytes are none.
///
/// A client may not send beyond its message before it has an answer, but if it does, the bytes must reach the target: only
/// as many as are missing are read.
async fn read_message<T>(
    client: &mut TcpStream,
    buffer: &mut Vec<u8>,
    parse: impl Fn(&[u8]) -> Result<Option<T>, Incomplete>,
) -> io::Result<Option<T>> {
    buffer.clear();
    loop {
        match parse(buffer) {
            Ok(message) => return Ok(message),
            Err(Incomplete(missing)) => {
                let start = buffer.len();
                buffer.resize(start + missing, 0);
                client
                    .read_exact(buffer.get_mut(start..).unwrap_or_default())
                    .await?;
            }
        }
    }
}

async fn connect(mut client: TcpStream, target: &Target, dial: &dyn Dial) -> io::Result<()> {
    let host = target.host();
    let dialed = tokio::time::timeout(DIAL_LIMIT, dial.tcp(&host, target.port)).await;
    let stream = match dialed {
        Ok(Ok(stream)) => stream,
        failed => {
            // Compat: the originals have one code for all failures.
            answer(&mut client, Reply::GeneralFailure, None).await?;
            let why = match failed {
                Ok(Err(error)) => error,
                _ => io::ErrorKind::TimedOut.into(),
            };
            return Err(io::Error::new(
                why.kind(),
                format!("socks5: dialing {target}: {why}"),
            ));
        }
    };
    answer(&mut client, Reply::Succeeded, stream.local_addr()).await?;
    relay(client, stream).await
}

async fn answer(client: &mut TcpStream, reply: Reply, bound: Option<SocketAddr>) -> io::Result<()> {
    client.write_all(&reply.bytes(bound)).await
}
