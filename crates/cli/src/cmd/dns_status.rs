//! `tailscale dns status`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use goflag::Parsed;
use localapi::DnsSystem;
use serde::Serialize;
use tailcfg::{DnsConfig, DnsRecord};

use super::dns::Server;
use crate::command::{Context, Error};
use crate::text::json;

/// What `--json` prints (the original's `tsdnsjsonv0.StatusResponse`).
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    #[serde(rename = "TailscaleDNS")]
    tailscale_dns: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_tailnet: Option<Tailnet>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resolvers: Vec<Server>,
    #[serde(rename = "SplitDNSRoutes", skip_serializing_if = "Option::is_none")]
    routes: Option<BTreeMap<String, Vec<Server>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fallback_resolvers: Vec<Server>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    search_domains: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nameservers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cert_domains: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extra_records: Vec<DnsRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exit_node_filtered_set: Vec<String>,
    #[serde(rename = "SystemDNS", skip_serializing_if = "Option::is_none")]
    system: Option<DnsSystem>,
    #[serde(rename = "SystemDNSError", skip_serializing_if = "String::is_empty")]
    system_error: String,
}

#[derive(Debug, Serialize)]
struct Tailnet {
    #[serde(rename = "MagicDNSEnabled")]
    enabled: bool,
    #[serde(rename = "MagicDNSSuffix", skip_serializing_if = "String::is_empty")]
    suffix: String,
    #[serde(rename = "SelfDNSName", skip_serializing_if = "String::is_empty")]
    own_name: String,
}

/// What the system's resolver is called that does not tell.
const NOT_SUPPORTED: &str = "not supported";

pub(crate) async fn run(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let report = read(context).await?;
    if parsed.bool("json") {
        let text = json::indent(&json::encode(&report), "", "  ");
        return context.out(format!("{text}\n"));
    }
    context.out(report.to_text(parsed.bool("all")))
}

async fn read(context: &mut Context<'_>) -> Result<Report, Error> {
    let status = context.status(true).await?;
    let prefs = context.prefs().await?;
    let mut report = Report {
        tailscale_dns: prefs.corp_dns,
        ..Report::default()
    };
    let Some(tailnet) = status.current_tailnet else {
        return Ok(report);
    };
    let own = status.self_status.as_ref();
    report.current_tailnet = Some(Tailnet {
        enabled: tailnet.magic_dns_enabled,
        suffix: tailnet.magic_dns_suffix,
        own_name: own.map(|own| own.dns_name.clone()).unwrap_or_default(),
    });
    let failed = |error: &dyn std::fmt::Display| format!("failed to fetch DNS config: {error}");
    let config = context.get("dns-config").await;
    let config = config.map_err(|error| failed(&error))?;
    let config: DnsConfig = serde_json::from_str(&config).map_err(|error| failed(&error))?;
    report.take(config);
    match context.get("dns-osconfig").await {
        Ok(text) => report.system = serde_json::from_str(&text).ok(),
        Err(error) => {
            let text = error.to_string();
            report.system_error = match text.contains(NOT_SUPPORTED) {
                true => format!("{NOT_SUPPORTED} on this platform"),
                false => text,
            };
        }
    }
    Ok(report)
}

impl Report {
    fn take(&mut self, config: DnsConfig) {
        let servers = |all: Vec<_>| all.into_iter().map(Server::new).collect();
        self.resolvers = servers(config.resolvers);
        let routes = config.routes.into_iter();
        let asked = routes.map(|(suffix, all)| (suffix, servers(all.unwrap_or_default())));
        // Compat: those that are answered here are not listed.
        self.routes = Some(
            asked
                .filter(|(_, all): &(_, Vec<_>)| !all.is_empty())
                .collect(),
        );
        self.fallback_resolvers = servers(config.fallback_resolvers);
        self.search_domains = config.domains;
        self.search_domains.sort();
        self.nameservers = config.nameservers.iter().map(ToString::to_string).collect();
        self.cert_domains = config.cert_domains;
        self.extra_records = config.extra_records;
        self.exit_node_filtered_set = config.exit_node_filtered_set;
    }

    fn to_text(&self, all: bool) -> String {
        let mut out = "\n=== 'Use Tailscale DNS' status ===\n\n".to_owned();
        out += match self.tailscale_dns {
            true => {
                "Tailscale DNS: enabled.\n\nTailscale is configured to handle DNS queries on this device.\n\
                 Run 'tailscale set --accept-dns=false' to revert to your system default DNS resolver.\n"
            }
            false => {
                "Tailscale DNS: disabled.\n\n(Run 'tailscale set --accept-dns=true' to start sending DNS queries to the Tailscale DNS resolver)\n"
            }
        };
        out += "\n=== MagicDNS configuration ===\n\n\
                This is the DNS configuration provided by the coordination server to this device.\n\n";
        let Some(tailnet) = &self.current_tailnet else {
            return out
                + "No tailnet information available; make sure you're logged in to a tailnet.\n";
        };
        let _ = match tailnet.enabled {
            true => writeln!(
                out,
                "MagicDNS: enabled tailnet-wide (suffix = {})\n\nOther devices in your tailnet can reach this device at {}",
                tailnet.suffix, tailnet.own_name
            ),
            false => writeln!(out, "MagicDNS: disabled tailnet-wide."),
        };
        self.asked(&mut out, all);
        section(
            &mut out,
            "Search Domains",
            "no search domains configured",
            self.search_domains.iter().map(|name| format!("- {name}")),
        );
        if all {
            self.details(&mut out);
        }
        self.system(&mut out, all);
        out += "\n[this is a preliminary version of this command; the output format may change in the future]\n";
        out
    }

    /// Who is asked.
    fn asked(&self, out: &mut String, all: bool) {
        section(
            out,
            "Resolvers (in preference order)",
            "no resolvers configured, system default will be used: see 'System DNS configuration' below",
            self.resolvers
                .iter()
                .map(|server| format!("- {}", server.shown())),
        );
        let routes = self.routes.iter().flatten();
        let lines = routes.flat_map(|(suffix, servers)| {
            let line = move |server: &Server| format!("- {suffix:<30} -> {}", server.shown());
            servers.iter().map(line)
        });
        section(
            out,
            "Split DNS Routes",
            "no routes configured: split DNS disabled",
            lines,
        );
        if all {
            let servers = self.fallback_resolvers.iter().enumerate();
            section(
                out,
                "Fallback Resolvers",
                "no fallback resolvers configured",
                servers.map(|(at, server)| format!("{at}: {}", server.shown())),
            );
        }
    }

    fn details(&self, out: &mut String) {
        section(
            out,
            "Nameservers IP Addresses",
            "none were provided",
            dashed(&self.nameservers),
        );
        section(
            out,
            "Certificate Domains",
            "no certificate domains are configured",
            dashed(&self.cert_domains),
        );
        let record = |record: &DnsRecord| {
            let DnsRecord { name, kind, value } = record;
            match kind.is_empty() {
                true => format!("- {name:<50} -> {value}"),
                false => format!("- [{kind}] {name:<50} -> {value}"),
            }
        };
        section(
            out,
            "Additional DNS Records",
            "no extra records are configured",
            self.extra_records.iter().map(record),
        );
        section(
            out,
            "Filtered suffixes when forwarding DNS queries as an exit node",
            "no suffixes are filtered",
            dashed(&self.exit_node_filtered_set),
        );
    }

    fn system(&self, out: &mut String, all: bool) {
        *out += "\n=== System DNS configuration ===\n\n\
                 This is the DNS configuration that Tailscale believes your operating system is using.\n\
                 Tailscale may use this configuration if 'Override Local DNS' is disabled in the admin console,\n\
                 or if no resolvers are provided by the coordination server.\n";
        match &self.system {
            _ if self.system_error.contains(NOT_SUPPORTED) => {
                *out += "\n  (reading the system DNS configuration is not supported on this platform)\n";
            }
            _ if !self.system_error.is_empty() => {
                let _ = writeln!(
                    out,
                    "\n  (failed to read system DNS configuration: {})",
                    self.system_error
                );
            }
            None => *out += "\n  (no OS DNS configuration available)\n",
            Some(system) => {
                section(
                    out,
                    "Nameservers",
                    "no nameservers found, DNS queries might fail\nunless the coordination server is providing a nameserver",
                    dashed(&system.nameservers),
                );
                section(
                    out,
                    "Search domains",
                    "no search domains found",
                    dashed(&system.search_domains),
                );
                if all {
                    section(
                        out,
                        "Match domains",
                        "no match domains found",
                        dashed(&system.match_domains),
                    );
                }
            }
        }
    }
}

fn dashed(all: &[String]) -> impl Iterator<Item = String> {
    all.iter().map(|one| format!("- {one}"))
}

/// A heading and its lines, or what stands for none, after an empty line.
fn section(out: &mut String, title: &str, none: &str, lines: impl IntoIterator<Item = String>) {
    let _ = writeln!(out, "\n{title}:");
    let mut lines = lines.into_iter().peekable();
    if lines.peek().is_none() {
        let _ = writeln!(out, "  ({none})");
    }
    for line in lines {
        let _ = writeln!(out, "  {line}");
    }
}
