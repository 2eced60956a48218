//! Tells nodes their address.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use netcheck::stun;
use tokio::net::UdpSocket;

use crate::server::Shared;

/// Answers requests until the future is dropped.
pub(crate) async fn serve(shared: Arc<Shared>, socket: UdpSocket) -> Infallible {
    let mut buf = [0; 2048];
    loop {
        let Ok((n, from)) = socket.recv_from(&mut buf).await else {
            // Usually about an earlier answer that could not be delivered; if not, it must not spin.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let datagram = buf.get(..n).unwrap_or_default();
        let Ok(tx) = stun::parse_request(datagram) else {
            shared.stats.stun_refused.add(1);
            continue;
        };
        // On a socket of both families IPv4 nodes come in IPv6 clothes, which mean nothing to them.
        let seen = std::net::SocketAddr::new(from.ip().to_canonical(), from.port());
        if socket
            .send_to(&stun::response(tx, seen), from)
            .await
            .is_ok()
        {
            shared.stats.stun_answered.add(1);
        }
    }
}
