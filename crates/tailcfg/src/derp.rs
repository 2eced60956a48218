//! The map of relays.

use std::collections::BTreeMap;

use crate::{RegionId, wire};

wire! {
    /// Relays by region (`tailcfg.DERPMap`).
    pub struct DerpMap {
        /// How to choose the home.
        "HomeParams" ? home_params: Option<DerpHomeParams>,
        /// Regions. In an update `None` means unchanged; a present map replaces all.
        "Regions" = regions: Option<BTreeMap<RegionId, Option<DerpRegion>>>,
        /// Whether the well-known relays are left out of the server's own list.
        "omitDefaultRegions" ? omit_default_regions: bool,
    }

    /// How to choose the home (`tailcfg.DERPHomeParams`).
    pub struct DerpHomeParams {
        /// A factor for each region's latency. In an update `None` means unchanged and an empty map clears.
        "RegionScore" ? region_score: Option<BTreeMap<RegionId, f64>>,
    }

    /// Relays near each other, which share their clients (`tailcfg.DERPRegion`).
    pub struct DerpRegion {
        /// Number.
        "RegionID" = region_id: RegionId,
        /// Short name.
        "RegionCode" = region_code: String,
        /// Name for people.
        "RegionName" = region_name: String,
        /// Where it is.
        "Latitude" ? latitude: f64,
        /// Where it is.
        "Longitude" ? longitude: f64,
        /// Whether to take it as home only without a choice.
        "Avoid" ? avoid: bool,
        /// Whether to neither measure it nor take it as home.
        "NoMeasureNoHome" ? no_measure_no_home: bool,
        /// Relays, in the order to try them.
        "Nodes" = nodes: Vec<DerpNode>,
    }

    /// One relay (`tailcfg.DERPNode`).
    pub struct DerpNode {
        /// Unique name.
        "Name" = name: String,
        /// Its region.
        "RegionID" = region_id: RegionId,
        /// Host to connect to.
        "HostName" = host_name: String,
        /// Name that the certificate must be for, or `sha256-raw:` and the certificate's hash.
        "CertName" ? cert_name: String,
        /// Address; `none` forbids IPv4.
        "IPv4" ? ipv4: String,
        /// Address; `none` forbids IPv6.
        "IPv6" ? ipv6: String,
        /// 0 is 3478, -1 is none.
        "STUNPort" ? stun_port: i32,
        /// Whether it only answers STUN.
        "STUNOnly" ? stun_only: bool,
        /// 0 is 443.
        "DERPPort" ? derp_port: i32,
        /// Whether its certificate is not to be verified. For tests.
        "InsecureForTests" ? insecure_for_tests: bool,
        /// STUN address for tests.
        "STUNTestIP" ? stun_test_ip: String,
        /// Whether it also listens on port 80.
        "CanPort80" ? can_port80: bool,
    }
}
