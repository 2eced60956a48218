//! `tailscale wait`: until a service may listen on the node's address.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use futures_util::StreamExt as _;
use goflag::Parsed;
use ipn::{State, WatchMask};

use crate::command::{Context, Error};
use crate::text::quoted_list;

/// How often what cannot be waited for is looked at.
const INTERVAL: Duration = Duration::from_millis(250);

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    if !parsed.args().is_empty() {
        return Err(format!("unexpected arguments: {}", quoted_list(parsed.args())).into());
    }
    let timeout = parsed.duration("timeout");
    if timeout.nanos() <= 0 {
        return ready(context).await;
    }
    match tokio::time::timeout(timeout.to_std(), ready(context)).await {
        Ok(result) => result,
        Err(_) => Err("context deadline exceeded".into()),
    }
}

async fn ready(context: &mut Context<'_>) -> Result<(), Error> {
    while context.status(false).await.is_err() {
        tokio::time::sleep(INTERVAL).await;
    }
    let (ip, tun) = running(context).await?;
    // In userspace mode no interface will ever have the address.
    while tun && !is_ours(ip) {
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(())
}

/// Waits for the network; gives the node's first address and whether an interface will have it.
async fn running(context: &mut Context<'_>) -> Result<(IpAddr, bool), Error> {
    let mut bus = context.watch(WatchMask::INITIAL_STATE).await?;
    loop {
        let news = bus.next().await.ok_or("EOF")??;
        if news.state != Some(State::Running) {
            continue;
        }
        let status = context.status(false).await?;
        if let Some(ip) = status.tailscale_ips.iter().flatten().next() {
            return Ok((*ip, status.tun));
        }
    }
}

/// Whether a socket can be bound to the address, which is what the caller waits for.
fn is_ours(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}
