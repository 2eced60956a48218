//! `tailscale netcheck`: measures the network from this process, with the daemon's map of relays or the user's own.

mod bind;
mod map;
mod report;
mod run;

#[cfg(test)]
mod tests;

use goflag::{Parsed, quote};
use netcheck::{HomePicker, Report};

use self::run::Sockets;
use crate::command::{Context, Error};

/// How long an incremental measurement may follow another before all regions are asked again.
const FULL_INTERVAL_SECS: u64 = 5 * 60;

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let format = parsed.string("format").to_owned();
    if format.starts_with("json") {
        context.err("# Warning: this JSON format is not yet considered a stable interface\n");
    }
    let address = bind::address(
        parsed
            .given("bind-address")
            .then(|| parsed.string("bind-address")),
        parsed.given("bind-port").then(|| parsed.int("bind-port")),
        context.env.var("TS_DEBUG_NETCHECK_UDP_BIND"),
    )?;
    let sockets = match Sockets::bind(address).await {
        Ok(sockets) => sockets,
        Err(why) => {
            context.err(format!("netcheck: UDP test failure: {why}\n"));
            Sockets::none()
        }
    };
    let dialer = run::dialer(context.env);
    let map = map::load(context, &dialer).await?;
    let every = parsed.duration("every");
    let verbose = parsed.bool("verbose");
    let mut picker = HomePicker::new();
    let mut last: Option<Report> = None;
    let mut last_full = rt::now();
    loop {
        let started = rt::now();
        let full = last.is_none() || started.since(last_full).as_secs() > FULL_INTERVAL_SECS;
        if full {
            last_full = started;
        }
        let previous = last.as_ref().filter(|_| !full);
        let home = picker.previous();
        let mut report = run::measure(&sockets, &dialer, &map, previous, home).await;
        picker.choose(&mut report, &map, &|_| None, started, rt::now());
        // Compat: the original's command says that it does not know, where a node may still have only one choice.
        report.preferred_derp = report
            .preferred_derp
            .filter(|_| !report.region_latency.is_empty());
        if verbose {
            context.err(report::concise(&report, &map, rt::now().since(started)));
        }
        let at = tailcfg::go::GoTime::from_unix_nanos(rt::wall().as_unix_nanos());
        let text = match format.as_str() {
            "" => report::text(&report, &map, at, verbose),
            "json" => report::json(&report, at, true),
            "json-line" => report::json(&report, at, false),
            other => return Err(format!("unknown output format {}", quote(other)).into()),
        };
        context.out(text)?;
        if every.nanos() == 0 {
            return Ok(());
        }
        tokio::time::sleep(every.to_std()).await;
        last = Some(report);
    }
}
