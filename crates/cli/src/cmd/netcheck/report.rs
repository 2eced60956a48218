//! A measurement's report, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use derp::{DerpMap, RegionId};
use goflag::GoDuration;
use netcheck::Report;
use serde::Serialize;
use tailcfg::go::GoTime;

use crate::text::json as layout;

/// The report for people.
pub(super) fn text(report: &Report, map: &DerpMap, at: GoTime, verbose: bool) -> String {
    let mut out = format!(
        "\nReport:\n\t* Time: {}\n\t* UDP: {}\n",
        at.to_string().replacen('T', " ", 1),
        report.udp
    );
    let v4 = match report.global_v4 {
        Some(seen) => format!("yes, {seen}"),
        None => "(no addr found)".to_owned(),
    };
    let v6 = match report.global_v6 {
        Some(seen) => format!("yes, {seen}"),
        None if report.ipv6 => "(no addr found)".to_owned(),
        None if report.os_has_ipv6 => "no, but OS has support".to_owned(),
        None => "no, unavailable in OS".to_owned(),
    };
    let varies = report.mapping_varies_by_dest_ip;
    let varies = varies.map_or(String::new(), |varies| varies.to_string());
    let _ = write!(
        out,
        "\t* IPv4: {v4}\n\t* IPv6: {v6}\n\t* MappingVariesByDestIP: {varies}\n\t* PortMapping: not checked\n"
    );
    if report.region_latency.is_empty() {
        out.push_str("\t* Nearest DERP: unknown (no response to latency probes)\n");
        return out;
    }
    let nearest = match report.preferred_derp {
        None => "[none]".to_owned(),
        Some(id) => map.region(id).map_or_else(
            || format!("{id} (region not found in map)"),
            |region| region.name.clone(),
        ),
    };
    let _ = write!(out, "\t* Nearest DERP: {nearest}\n\t* DERP latency:\n");
    for id in by_latency(report, map) {
        let Some(region) = map.region(id) else {
            continue;
        };
        let latency = report.region_latency.get(&id);
        let latency = latency.map(|latency| rounded(*latency, 100_000).to_string());
        let number = if verbose {
            format!("derp{id}, ")
        } else {
            String::new()
        };
        let _ = writeln!(
            out,
            "\t\t- {:>3}: {:<7} ({number}{})",
            region.code,
            latency.unwrap_or_default(),
            region.name
        );
    }
    out
}

/// Nearest first, those that did not answer last.
fn by_latency(report: &Report, map: &DerpMap) -> Vec<RegionId> {
    let mut ids: Vec<RegionId> = map.regions.keys().copied().collect();
    ids.sort_by_key(|id| {
        let latency = report.region_latency.get(id);
        (latency.is_none(), latency.copied(), *id)
    });
    ids
}

/// Rounded to a multiple of so many nanoseconds.
fn rounded(latency: Duration, unit: i64) -> GoDuration {
    let nanos = GoDuration::from_std(latency).nanos();
    GoDuration::from_nanos(nanos.saturating_add(unit / 2).div_euclid(unit) * unit)
}

/// The report as the original's `netcheck.Report`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Json {
    now: GoTime,
    #[serde(rename = "UDP")]
    udp: bool,
    #[serde(rename = "IPv6")]
    ipv6: bool,
    #[serde(rename = "IPv4")]
    ipv4: bool,
    #[serde(rename = "IPv6CanSend")]
    ipv6_can_send: bool,
    #[serde(rename = "IPv4CanSend")]
    ipv4_can_send: bool,
    #[serde(rename = "OSHasIPv6")]
    os_has_ipv6: bool,
    #[serde(rename = "ICMPv4")]
    icmpv4: bool,
    #[serde(rename = "MappingVariesByDestIP")]
    mapping_varies_by_dest_ip: Option<bool>,
    /// Port mapping and captive portals are not looked for.
    #[serde(rename = "UPnP")]
    upnp: Option<bool>,
    #[serde(rename = "PMP")]
    pmp: Option<bool>,
    #[serde(rename = "PCP")]
    pcp: Option<bool>,
    #[serde(rename = "PreferredDERP")]
    preferred_derp: RegionId,
    region_latency: BTreeMap<String, i64>,
    region_v4_latency: BTreeMap<String, i64>,
    region_v6_latency: BTreeMap<String, i64>,
    global_v4_counters: Option<BTreeMap<String, u32>>,
    global_v6_counters: Option<BTreeMap<String, u32>>,
    global_v4: String,
    global_v6: String,
    captive_portal: Option<bool>,
}

/// The report for programs, on many lines or one.
pub(super) fn json(report: &Report, at: GoTime, indented: bool) -> String {
    let counters = |v4: bool| {
        let counted = report.global_counters.iter();
        let counted: BTreeMap<String, u32> = counted
            .filter(|(seen, _)| seen.is_ipv4() == v4)
            .map(|(seen, count)| (seen.to_string(), *count))
            .collect();
        (!counted.is_empty()).then_some(counted)
    };
    let shown = Json {
        now: at,
        udp: report.udp,
        ipv6: report.ipv6,
        ipv4: report.ipv4,
        ipv6_can_send: report.ipv6_can_send,
        ipv4_can_send: report.ipv4_can_send,
        os_has_ipv6: report.os_has_ipv6,
        icmpv4: report.icmpv4,
        mapping_varies_by_dest_ip: report.mapping_varies_by_dest_ip,
        upnp: None,
        pmp: None,
        pcp: None,
        preferred_derp: report.preferred_derp.unwrap_or(0),
        region_latency: nanoseconds(&report.region_latency),
        region_v4_latency: nanoseconds(&report.region_v4_latency),
        region_v6_latency: nanoseconds(&report.region_v6_latency),
        global_v4_counters: counters(true),
        global_v6_counters: counters(false),
        global_v4: report
            .global_v4
            .map(|seen| seen.to_string())
            .unwrap_or_default(),
        global_v6: report
            .global_v6
            .map(|seen| seen.to_string())
            .unwrap_or_default(),
        captive_portal: None,
    };
    let line = layout::encode(&shown);
    let text = if indented {
        layout::indent(&line, "", "\t")
    } else {
        line
    };
    text + "\n"
}

/// Compat: Go sorts the keys of maps as text.
fn nanoseconds(latencies: &BTreeMap<RegionId, Duration>) -> BTreeMap<String, i64> {
    let nanos = |latency: &Duration| GoDuration::from_std(*latency).nanos();
    latencies
        .iter()
        .map(|(id, latency)| (id.to_string(), nanos(latency)))
        .collect()
}

/// The report in one line, for `--verbose`.
pub(super) fn concise(report: &Report, map: &DerpMap, took: Duration) -> String {
    let mut out = format!("netcheck: report: udp={}", report.udp);
    if !report.ipv4 {
        out.push_str(" v4=false");
    }
    let _ = write!(out, " v6={}", report.ipv6);
    if !report.ipv6 {
        let _ = write!(out, " v6os={}", report.os_has_ipv6);
    }
    let varies = report.mapping_varies_by_dest_ip;
    let varies = varies.map_or(String::new(), |varies| varies.to_string());
    let _ = write!(out, " mapvarydest={varies} portmap=?");
    if let Some(seen) = report.global_v4 {
        let _ = write!(out, " v4a={seen}");
    }
    if let Some(seen) = report.global_v6 {
        let _ = write!(out, " v6a={seen}");
    }
    let _ = write!(out, " derp={}", report.preferred_derp.unwrap_or(0));
    let distances: Vec<String> = map
        .regions
        .keys()
        .flat_map(|id| {
            let of = |family: &str, latencies: &BTreeMap<RegionId, Duration>| {
                let latency = latencies.get(id)?;
                Some(format!("{id}{family}:{}", rounded(*latency, 1_000_000)))
            };
            [
                of("v4", &report.region_v4_latency),
                of("v6", &report.region_v6_latency),
            ]
        })
        .flatten()
        .collect();
    if report.preferred_derp.is_some() {
        let _ = write!(out, " derpdist={}", distances.join(","));
    }
    let took = rounded(took, 1_000_000);
    let _ = write!(out, "\nnetcheck: it took {took}\n");
    out
}
