//! `ping`: who answers, and how.

use std::net::IpAddr;
use std::time::Duration;

use dataplane::{Engine, PingError, PingKind, PingRequest, Pong};
use ipn::PingResult;
use localapi::{ApiError, Reply};
use netmap::{NetMap, Peer};

use super::Api;
use crate::brain::BrainHandle;

pub(super) async fn ping(
    api: &Api,
    ip: IpAddr,
    kind: &str,
    size: usize,
) -> Result<Reply, ApiError> {
    let kind = kind_of(kind).map_err(ApiError::failed_object)?;
    match result(&api.brain, &api.engine, ip, kind, size).await {
        Some(result) => Reply::json(&result),
        // Compat: a ping without an answer stays open until the client, which has its own limit, hangs up.
        None => std::future::pending().await,
    }
}

/// A kind of ping by its name.
pub(crate) fn kind_of(name: &str) -> Result<PingKind, String> {
    match name {
        "disco" => Ok(PingKind::Disco),
        "TSMP" => Ok(PingKind::Tsmp),
        "ICMP" => Ok(PingKind::Icmp),
        "peerapi" => Err("not built: peerapi ping".to_owned()),
        other => Err(format!("unknown ping type {other:?}")),
    }
}

/// What a ping comes to; `None` if nobody answers.
pub(crate) async fn result(
    brain: &BrainHandle,
    engine: &Engine,
    ip: IpAddr,
    kind: PingKind,
    size: usize,
) -> Option<PingResult> {
    let mut result = PingResult {
        ip: ip.to_string(),
        ..PingResult::default()
    };
    let failed = |mut result: PingResult, error: &str| {
        result.err = error.into();
        Some(result)
    };
    let snapshot = brain.snapshot();
    let Some(netmap) = &snapshot.netmap else {
        return failed(result, "no netmap");
    };
    if netmap.self_node.ips().any(|own| own == ip) {
        result.is_local_ip = true;
        return failed(result, &format!("{ip} is local Tailscale IP"));
    }
    let Some(peer) = owner(netmap, ip) else {
        return failed(result, "no matching peer");
    };
    if peer.expired {
        return failed(result, "peer's node key has expired");
    }
    result.node_ip = peer
        .ips()
        .next()
        .map(|ip| ip.to_string())
        .unwrap_or_default();
    result.node_name = peer.name.split('.').next().unwrap_or_default().to_owned();
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
        Err(error) => failed(result, &error.to_string()),
    }
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
