//! `tailscale ping`.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use goflag::{GoDuration, Parsed, quote};
use ipn::PingResult;

use super::{need_running, resolve};
use crate::command::{Context, Error};

/// The kinds of ping, by the LocalAPI's names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Disco,
    Tsmp,
    Icmp,
    PeerApi,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Disco => "disco",
            Self::Tsmp => "TSMP",
            Self::Icmp => "ICMP",
            Self::PeerApi => "peerapi",
        }
    }
}

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let status = context.status_or_hint(true).await?;
    need_running(context, &status)?;
    let target = match parsed.args() {
        [target] if !target.is_empty() => target,
        _ => return Err("usage: tailscale ping <hostname-or-IP>".into()),
    };
    let kind = match () {
        () if parsed.bool("tsmp") => Kind::Tsmp,
        () if parsed.bool("icmp") => Kind::Icmp,
        () if parsed.bool("peerapi") => Kind::PeerApi,
        () => Kind::Disco,
    };
    let size =
        usize::try_from(parsed.int("size")).map_err(|_| "ping --size must not be negative")?;
    let (ip, own) = resolve(context, target).await?;
    if own {
        return context.out(format!("{ip} is local Tailscale IP\n"));
    }
    if parsed.bool("verbose") && ip.to_string() != *target {
        context.err(format!(
            "lookup {} => {}\n",
            quote(target),
            quote(&ip.to_string())
        ));
    }
    ping(context, parsed, kind, ip, size).await
}

async fn ping(
    context: &mut Context<'_>,
    parsed: &Parsed,
    kind: Kind,
    ip: IpAddr,
    size: usize,
) -> Result<(), Error> {
    let (timeout, until_direct) = (
        parsed.duration("timeout").to_std(),
        parsed.bool("until-direct"),
    );
    let mut answered = false;
    let mut sent = 0i64;
    loop {
        sent += 1;
        let last = sent == parsed.int("c");
        let Ok(result) = tokio::time::timeout(timeout, context.ping(ip, kind.name(), size)).await
        else {
            context.out(format!("ping {} timed out\n", quote(&ip.to_string())))?;
            match (last, answered) {
                (true, true) => return Ok(()),
                (true, false) => return Err("no reply".into()),
                (false, _) => continue,
            }
        };
        let result = result?;
        if !result.err.is_empty() {
            return if result.is_local_ip {
                context.out(result.err + "\n")
            } else {
                Err(result.err.into())
            };
        }
        if kind == Kind::PeerApi {
            let (ip, name, url) = (&result.node_ip, &result.node_name, &result.peer_api_url);
            let latency = milliseconds(result.latency_seconds);
            return context.out(format!(
                "hit peerapi of {ip} ({name}) at {url} in {latency}\n"
            ));
        }
        answered = true;
        context.out(pong(&result, kind))?;
        if kind != Kind::Disco || (!result.endpoint.is_empty() && until_direct) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        if last {
            return if until_direct {
                Err("direct connection not established".into())
            } else {
                Ok(())
            };
        }
    }
}

/// The line for an answer.
fn pong(result: &PingResult, kind: Kind) -> String {
    let via = if !result.peer_relay.is_empty() {
        format!("peer-relay({})", result.peer_relay)
    } else if result.derp_region_id != 0 {
        format!("DERP({})", result.derp_region_code)
    } else if !result.endpoint.is_empty() {
        result.endpoint.clone()
    } else {
        kind.name().to_owned()
    };
    let mut line = format!("pong from {} ({}", result.node_name, result.node_ip);
    if result.peer_api_port != 0 {
        let _ = write!(line, ", {}", result.peer_api_port);
    }
    let _ = writeln!(
        line,
        ") via {via} in {}",
        milliseconds(result.latency_seconds)
    );
    line
}

/// Seconds as a duration in whole milliseconds, half of one counting as one.
fn milliseconds(seconds: f64) -> GoDuration {
    const MILLISECOND: i64 = 1_000_000;
    #[expect(clippy::cast_possible_truncation, reason = "a float's cast saturates")]
    let nanos = (seconds * 1e9) as i64;
    GoDuration::from_nanos(
        (nanos.saturating_add(MILLISECOND / 2)).div_euclid(MILLISECOND) * MILLISECOND,
    )
}
