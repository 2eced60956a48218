//! `tailscale ip`.

use std::net::IpAddr;

use goflag::{Parsed, quote};
use ipn::Status;

use super::resolve;
use crate::command::{Context, Error};
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
            peer_ips(&status, ip).ok_or_else(|| format!("no peer or service found with IP {ip}"))?
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

/// All addresses of the node that has this one.
fn peer_ips(status: &Status, ip: IpAddr) -> Option<Vec<IpAddr>> {
    let peers = status.peer.iter().flat_map(|peers| peers.values());
    let mut nodes = peers.chain(status.self_status.as_deref());
    nodes.find_map(|node| node.tailscale_ips.clone().filter(|ips| ips.contains(&ip)))
}
