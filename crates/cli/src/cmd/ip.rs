//! `tailscale ip`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use goflag::{Parsed, quote};
use http::StatusCode;
use ipn::Status;
use serde::Deserialize;

use super::resolve;
use crate::command::{Context, Error};
use crate::daemon::ApiError;
use crate::text::list;

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let [one, only4, only6] = ["1", "4", "6"].map(|flag| parsed.bool(flag));
    if parsed.args().len() > 1 {
        return Err("too many arguments, expected at most one peer".into());
    }
    if [one, only4, only6].iter().filter(|given| **given).count() > 1 {
        return Err("tailscale ip -1, -4, and -6 are mutually exclusive".into());
    }
    let status = context.status(true).await?;
    let own = status.tailscale_ips.clone().unwrap_or_default();
    let wanted = parsed.string("assert");
    if !wanted.is_empty() {
        return if own.iter().any(|ip| ip.to_string() == wanted) {
            Ok(())
        } else {
            Err(format!(
                "assertion failed: IP {} not found among {}",
                quote(wanted),
                list(&own)
            )
            .into())
        };
    }
    let mut ips = match parsed.args().first().filter(|peer| !peer.is_empty()) {
        None => own,
        Some(peer) => {
            let (ip, _) = resolve(context, peer).await?;
            match peer_ips(&status, ip) {
                Some(ips) => ips,
                None => service_ips(context, ip).await?,
            }
        }
    };
    if ips.is_empty() {
        return Err(format!("no current Tailscale IPs; state: {}", status.backend_state).into());
    }
    if one {
        ips.truncate(1);
    }
    let shown: Vec<IpAddr> = ips
        .into_iter()
        .filter(|ip| if ip.is_ipv4() { !only6 } else { !only4 })
        .collect();
    if shown.is_empty() {
        return Err(format!("no Tailscale IPv{} address", if only4 { 4 } else { 6 }).into());
    }
    context.out(shown.iter().map(|ip| format!("{ip}\n")).collect::<String>())
}

/// All addresses of the service that has this one.
async fn service_ips(context: &mut Context<'_>, ip: IpAddr) -> Result<Vec<IpAddr>, Error> {
    #[derive(Deserialize)]
    struct Service {
        #[serde(rename = "Addrs", default)]
        addrs: Option<Vec<IpAddr>>,
    }
    let text = match context.get("services").await {
        // A daemon without services knows none.
        Err(ApiError::Status {
            status: StatusCode::NOT_IMPLEMENTED,
            ..
        }) => "null".to_owned(),
        answer => answer?,
    };
    let services: Option<BTreeMap<String, Service>> =
        serde_json::from_str(&text).map_err(|error| format!("decode the services: {error}"))?;
    let mut addresses = services
        .into_iter()
        .flatten()
        .filter_map(|(_, service)| service.addrs);
    let found = addresses.find(|addresses| addresses.contains(&ip));
    Ok(found.ok_or_else(|| format!("no peer or service found with IP {ip}"))?)
}

/// All addresses of the node that has this one.
fn peer_ips(status: &Status, ip: IpAddr) -> Option<Vec<IpAddr>> {
    let peers = status.peer.iter().flat_map(|peers| peers.values());
    let mut nodes = peers.chain(status.self_status.as_deref());
    nodes.find_map(|node| node.tailscale_ips.clone().filter(|ips| ips.contains(&ip)))
}
