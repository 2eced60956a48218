//! The map of relays: merging updates, and the domain form.

use derp::{DerpMap, FamilyAddr, Node, NodeCert, Region};
use tailcfg::RegionId;

/// Completes an update with what it leaves unchanged. Regions are replaced all together, parameters one by one.
pub(crate) fn merge(old: Option<&tailcfg::DerpMap>, mut new: tailcfg::DerpMap) -> tailcfg::DerpMap {
    if let Some(regions) = &mut new.regions {
        // Some servers send a region as null.
        regions.retain(|_, region| region.is_some());
    }
    let Some(old) = old else {
        return new;
    };
    if new.regions.is_none() {
        new.regions.clone_from(&old.regions);
        new.omit_default_regions = old.omit_default_regions;
    }
    match (&mut new.home_params, &old.home_params) {
        (None, old) => new.home_params.clone_from(old),
        (Some(new), Some(old)) if new.region_score.is_none() => {
            new.region_score.clone_from(&old.region_score);
        }
        _ => {}
    }
    new
}

/// The domain form. A region goes by its key in the map; one that does not fit 16 bits is left out, and so is a score that
/// is not positive.
#[must_use]
pub fn derp_map_from_wire(wire: &tailcfg::DerpMap) -> DerpMap {
    let regions = wire.regions.iter().flatten().filter_map(|(id, region)| {
        let id = region_id(*id)?;
        Some((id, region_from_wire(id, region.as_ref()?)))
    });
    let scores = wire
        .home_params
        .iter()
        .filter_map(|params| params.region_score.as_ref())
        .flatten()
        .filter(|(_, score)| score.is_finite() && **score > 0.0)
        .filter_map(|(id, score)| Some((region_id(*id)?, *score)));
    DerpMap {
        regions: regions.collect(),
        region_score: scores.collect(),
    }
}

fn region_id(id: RegionId) -> Option<derp::RegionId> {
    derp::RegionId::try_from(id).ok().filter(|id| *id != 0)
}

fn region_from_wire(id: derp::RegionId, region: &tailcfg::DerpRegion) -> Region {
    Region {
        id,
        code: region.region_code.clone(),
        name: region.region_name.clone(),
        latitude: region.latitude,
        longitude: region.longitude,
        avoid: region.avoid,
        no_measure_no_home: region.no_measure_no_home,
        nodes: region.nodes.iter().map(node_from_wire).collect(),
    }
}

fn node_from_wire(node: &tailcfg::DerpNode) -> Node {
    Node {
        name: node.name.clone(),
        host: node.host_name.clone(),
        cert_name: NodeCert::from_wire(&node.cert_name),
        ipv4: FamilyAddr::from_wire(&node.ipv4),
        ipv6: FamilyAddr::from_wire(&node.ipv6),
        stun_port: Node::stun_port_from_wire(node.stun_port.into()),
        stun_test_ip: node.stun_test_ip.parse().ok(),
        stun_only: node.stun_only,
        derp_port: Node::derp_port_from_wire(node.derp_port.into()),
        insecure_for_tests: node.insecure_for_tests,
        can_port80: node.can_port80,
    }
}
