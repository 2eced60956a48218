//! `ping`: who answers, and how.

use std::net::IpAddr;

use dataplane::{PingError, PingKind, PingRequest, Pong};
use ipn::PingResult;
use localapi::{ApiError, Reply};
use netmap::{NetMap, Peer};

use super::Api;

pub(super) async fn ping(
    api: &Api,
    ip: IpAddr,
    kind: &str,
    size: usize,
) -> Result<Reply, ApiError> {
    let kind = match kind {
        "disco" => PingKind::Disco,
        "TSMP" => PingKind::Tsmp,
        "ICMP" => PingKind::Icmp,
        "peerapi" => return Err(ApiError::failed_object("not built: peerapi ping")),
        other => {
            return Err(ApiError::failed_object(format!(
                "unknown ping type {other:?}"
            )));
        }
    };
    let mut result = PingResult {
        ip: ip.to_string(),
        ..PingResult::default()
    };
    let snapshot = api.brain.snapshot();
    let Some(netmap) = &snapshot.netmap else {
        return answer(result, "no netmap");
    };
    if netmap.self_node.ips().any(|own| own == ip) {
        result.is_local_ip = true;
        return answer(result, &format!("{ip} is local Tailscale IP"));
    }
    let Some(peer) = owner(netmap, ip) else {
        return answer(result, "no matching peer");
    };
    if peer.expired {
        return answer(result, "peer's node key has expired");
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
    match api.engine.ping(request).await {
        Ok(pong) => {
            fill(&mut result, netmap, &pong);
            Reply::json(&result)
        }
        // Compat: a ping without an answer stays open until the client, which has its own limit, hangs up.
        Err(PingError::TimedOut) => std::future::pending().await,
        Err(error) => answer(result, &error.to_string()),
    }
}

fn answer(mut result: PingResult, error: &str) -> Result<Reply, ApiError> {
    result.err = error.into();
    Reply::json(&result)
}

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
