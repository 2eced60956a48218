//! Name resolution.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::wire;

wire! {
    /// A server to ask (`dnstype.Resolver`).
    pub struct Resolver {
        /// An address, address and port, `https://` or `http://` URL.
        "Addr" ? addr: String,
        /// Addresses of the host in the URL.
        "BootstrapResolution" ? bootstrap_resolution: Vec<IpAddr>,
        /// Whether to ask it even while an exit node is in use.
        "UseWithExitNode" ? use_with_exit_node: bool,
    }

    /// One extra record (`tailcfg.DNSRecord`).
    pub struct DnsRecord {
        /// Name with or without a dot at the end.
        "Name" = name: String,
        /// Empty for an address by its form, or `A`, `AAAA`, ….
        "Type" ? kind: String,
        /// Value.
        "Value" = value: String,
    }

    /// The tailnet's name resolution (`tailcfg.DNSConfig`).
    pub struct DnsConfig {
        /// Servers for everything.
        "Resolvers" ? resolvers: Vec<Resolver>,
        /// Servers for a suffix; none means that the node answers itself.
        "Routes" ? routes: BTreeMap<String, Option<Vec<Resolver>>>,
        /// Servers for where the machine's own cannot be known.
        "FallbackResolvers" ? fallback_resolvers: Vec<Resolver>,
        /// Search domains.
        "Domains" ? domains: Vec<String>,
        /// Whether MagicDNS is on.
        "Proxied" ? proxied: bool,
        /// Servers, in a retired form.
        "Nameservers" ? nameservers: Vec<IpAddr>,
        /// Names that the node may get certificates for.
        "CertDomains" ? cert_domains: Vec<String>,
        /// Records beside those of the nodes.
        "ExtraRecords" ? extra_records: Vec<DnsRecord>,
        /// Names that an exit node must not resolve for others.
        "ExitNodeFilteredSet" ? exit_node_filtered_set: Vec<String>,
        /// A switch for one old bug.
        "TempCorpIssue13969" ? temp_corp_issue_13969: String,
    }
}
