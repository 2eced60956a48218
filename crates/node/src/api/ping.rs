//! `ping`: who answers, and how.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use backend::Snapshot;
use dataplane::{Engine, PingError, PingKind, PingRequest, Pong};
use ipn::PingResult;
use localapi::{ApiError, Reply};
use netmap::{NetMap, Peer};
use tokio::io::AsyncWriteExt as _;
use transport::{Stream, head};

use crate::brain::BrainHandle;
use crate::userdial::UserDial;

/// What pings need.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) brain: BrainHandle,
    pub(crate) engine: Engine,
    pub(crate) dial: UserDial,
}

pub(super) async fn ping(
    means: &Means,
    ip: IpAddr,
    kind: &str,
    size: usize,
) -> Result<Reply, ApiError> {
    let answer = of_kind(means, ip, kind, size).await;
    match answer.map_err(ApiError::failed_object)? {
        Some(result) => Reply::json(&result),
        // Compat: a ping without an answer stays open until the client, which has its own limit, hangs up.
        None => std::future::pending().await,
    }
}

/// What a ping of a kind comes to, by the kind's name; `None` if nobody answers.
pub(crate) async fn of_kind(
    means: &Means,
    ip: IpAddr,
    kind: &str,
    size: usize,
) -> Result<Option<PingResult>, String> {
    let kind = match kind {
        "disco" => PingKind::Disco,
        "TSMP" => PingKind::Tsmp,
        "ICMP" => PingKind::Icmp,
        "peerapi" => return Ok(by_peer_api(&means.brain, &means.dial, ip).await),
        other => return Err(format!("unknown ping type {other:?}")),
    };
    Ok(result(&means.brain, &means.engine, ip, kind, size).await)
}

/// What a ping by the engine comes to.
async fn result(
    brain: &BrainHandle,
    engine: &Engine,
    ip: IpAddr,
    kind: PingKind,
    size: usize,
) -> Option<PingResult> {
    let snapshot = brain.snapshot();
    let (mut result, netmap, peer) = match target(&snapshot, ip) {
        Ok(target) => target,
        Err(failed) => return Some(*failed),
    };
    let request = PingRequest {
        peer: peer.id,
        address: ip,
        kind,
        size,
    };
    let answer = loop {
        match engine.ping(request).await {
            // Who has no way to a peer yet may have one soon: the asker has a limit of its own.
            Err(PingError::NoPath) => tokio::time::sleep(NO_PATH_PAUSE).await,
            answer => break answer,
        }
    };
    match answer {
        Ok(pong) => {
            fill(&mut result, netmap, &pong);
            Some(result)
        }
        Err(PingError::TimedOut) => None,
        Err(error) => {
            result.err = error.to_string();
            Some(result)
        }
    }
}

/// The start of a result, and whom to ask; or a result that says why nobody is asked.
fn target(
    snapshot: &Snapshot,
    ip: IpAddr,
) -> Result<(PingResult, &NetMap, &Peer), Box<PingResult>> {
    let mut result = PingResult {
        ip: ip.to_string(),
        ..PingResult::default()
    };
    let failed = |result: &PingResult, error: &str| {
        Box::new(PingResult {
            err: error.to_owned(),
            ..result.clone()
        })
    };
    let netmap = snapshot.netmap.as_ref();
    let netmap = netmap.ok_or_else(|| failed(&result, "no netmap"))?;
    if netmap.self_node.ips().any(|own| own == ip) {
        result.is_local_ip = true;
        return Err(failed(&result, &format!("{ip} is local Tailscale IP")));
    }
    let peer = owner(netmap, ip).ok_or_else(|| failed(&result, "no matching peer"))?;
    if peer.expired {
        return Err(failed(&result, "peer's node key has expired"));
    }
    result.node_ip = peer
        .ips()
        .next()
        .map(|ip| ip.to_string())
        .unwrap_or_default();
    result.node_name = peer.name.split('.').next().unwrap_or_default().to_owned();
    Ok((result, netmap, peer))
}

/// How long a peer may take to answer a request.
const PEER_API_PATIENCE: Duration = Duration::from_secs(10);

/// Asks a peer's API for nothing but an answer.
async fn by_peer_api(brain: &BrainHandle, dial: &UserDial, ip: IpAddr) -> Option<PingResult> {
    let snapshot = brain.snapshot();
    let (mut result, netmap, peer) = match target(&snapshot, ip) {
        Ok(target) => target,
        Err(failed) => return Some(*failed),
    };
    let Some(address) = backend::peer_api(netmap, peer) else {
        result.err = format!("no PeerAPI base found for peer {} ({ip})", peer.id.0);
        return Some(result);
    };
    let start = rt::now();
    let asked = tokio::time::timeout(PEER_API_PATIENCE, ask_for_nothing(dial, address));
    match asked.await {
        Ok(Ok(())) => {
            // Compat: these have the full name.
            result.node_name = peer.name.to_string();
            result.latency_seconds = rt::now().since(start).as_secs_f64();
            result.peer_api_url = format!("http://{address}");
        }
        Ok(Err(error)) => result.err = error.to_string(),
        Err(_) => return None,
    }
    Some(result)
}

async fn ask_for_nothing(dial: &UserDial, address: SocketAddr) -> std::io::Result<()> {
    let stream = dial.any(&[address]).await?;
    let request = format!("HEAD / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut stream = Stream::new(stream);
    stream.write_all(request.as_bytes()).await?;
    let read = head::read_head(stream, "the peer's API").await;
    let (head, _) = read.map_err(std::io::Error::other)?;
    let status = head.status().map_err(std::io::Error::other)?;
    if status != 200 {
        return Err(std::io::Error::other(format!("HTTP status {status}")));
    }
    Ok(())
}

/// Between two looks for a way to a peer.
const NO_PATH_PAUSE: Duration = Duration::from_millis(250);

/// The peer with this address, or the one that routes it.
fn owner(netmap: &NetMap, ip: IpAddr) -> Option<&Peer> {
    if let Some(peer) = netmap.by_ip(ip) {
        return Some(peer);
    }
    let routing = netmap.peers.iter().filter_map(|peer| {
        let best = peer
            .allowed_ips
            .iter()
            .filter(|net| net.contains(&ip))
            .map(|net| net.prefix_len())
            .max()?;
        Some((best, peer))
    });
    routing.max_by_key(|(len, _)| *len).map(|(_, peer)| &**peer)
}

fn fill(result: &mut PingResult, netmap: &NetMap, pong: &Pong) {
    result.latency_seconds = pong.latency.as_secs_f64();
    result.endpoint = pong
        .endpoint
        .map(|endpoint| endpoint.to_string())
        .unwrap_or_default();
    result.derp_region_id = pong.derp_region.into();
    let region = netmap.derp_map.regions.get(&pong.derp_region);
    result.derp_region_code = region
        .map(|region| region.code.to_string())
        .unwrap_or_default();
    result.peer_api_port = pong.peerapi_port;
}
