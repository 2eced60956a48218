//! UDP ASSOCIATE: datagrams in envelopes between a client and any number of targets.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use node::Dial;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;

use super::message::{Reply, Target, open_datagram, seal_datagram};
use super::{DIAL_LIMIT, answer};

/// Compat: the originals cut longer datagrams off.
const MAX_DATAGRAM: usize = 8 << 10;
/// Targets of one association. An association lives as long as its client, so they would add up.
const MAX_TARGETS: usize = 512;
/// A target without traffic for this long is forgotten; its next datagram finds it again.
const IDLE: Duration = Duration::from_secs(180);
const QUEUE: usize = 64;

/// Serves an association until the client's TCP connection ends.
pub(super) async fn associate(mut client: TcpStream, dial: &dyn Dial) -> io::Result<()> {
    let socket = match UdpSocket::bind((client.local_addr()?.ip(), 0)).await {
        Ok(socket) => socket,
        Err(error) => {
            answer(&mut client, Reply::GeneralFailure, None).await?;
            return Err(error);
        }
    };
    answer(&mut client, Reply::Succeeded, Some(socket.local_addr()?)).await?;
    let control_ended = async {
        let mut ignored = [0; 256];
        while client.read(&mut ignored).await? > 0 {}
        Ok(())
    };
    tokio::select! {
        ended = control_ended => ended,
        failed = carry(&socket, dial) => failed,
    }
}

/// Who gets the answers: whoever sent last.
#[derive(Default)]
struct LastClient(Mutex<Option<SocketAddr>>);

impl LastClient {
    fn set(&self, address: SocketAddr) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    fn get(&self) -> Option<SocketAddr> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn carry(socket: &UdpSocket, dial: &dyn Dial) -> io::Result<()> {
    let last = LastClient::default();
    let mut targets: HashMap<Target, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut running = FuturesUnordered::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            Some(ended) = running.next(), if !running.is_empty() => {
                let ended: Arc<Target> = ended;
                targets.remove(&*ended);
                continue;
            }
        };
        // An ICMP error of an answer that nobody wanted is no reason to stop.
        let Ok((len, from)) = received else { continue };
        last.set(from);
        let Some((target, data)) = open_datagram(buffer.get(..len).unwrap_or_default()) else {
            tracing::debug!("socks5: malformed datagram from {from}");
            continue;
        };
        let queue = match targets.get(&target) {
            Some(queue) => queue,
            None if targets.len() >= MAX_TARGETS => continue,
            None => {
                let (queue, outgoing) = mpsc::channel(QUEUE);
                running.push(serve_target(
                    Arc::new(target.clone()),
                    outgoing,
                    socket,
                    &last,
                    dial,
                ));
                targets.entry(target).or_insert(queue)
            }
        };
        // A target that does not keep up loses datagrams.
        let _ = queue.try_send(data.to_vec());
    }
}

/// Carries datagrams to and from one target, until it fails or is idle.
async fn serve_target(
    target: Arc<Target>,
    mut outgoing: mpsc::Receiver<Vec<u8>>,
    socket: &UdpSocket,
    last: &LastClient,
    dial: &dyn Dial,
) -> Arc<Target> {
    let host = target.host();
    let flow = match tokio::time::timeout(DIAL_LIMIT, dial.udp(&host, target.port)).await {
        Ok(Ok(flow)) => flow,
        Ok(Err(error)) => {
            tracing::debug!("socks5: dialing {target}: {error}");
            return target;
        }
        Err(_) => return target,
    };
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let either = {
            let receive = std::pin::pin!(flow.recv(&mut buffer));
            let send = std::pin::pin!(outgoing.recv());
            match tokio::time::timeout(IDLE, select(receive, send)).await {
                Err(_) => return target,
                Ok(Either::Left((received, _))) => Either::Left(received),
                Ok(Either::Right((datagram, _))) => Either::Right(datagram),
            }
        };
        match either {
            Either::Left(Ok(len)) => {
                let Some(client) = last.get() else { continue };
                let sealed = seal_datagram(&target, buffer.get(..len).unwrap_or_default());
                let _ = socket.send_to(&sealed, client).await;
            }
            Either::Right(Some(datagram)) => {
                if let Err(error) = flow.send(&datagram).await {
                    tracing::debug!("socks5: sending to {target}: {error}");
                }
            }
            Either::Left(Err(_)) | Either::Right(None) => return target,
        }
    }
}
