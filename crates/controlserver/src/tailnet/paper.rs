//! Nodes that exist on paper only: a large tailnet without its machines.

use std::net::{Ipv4Addr, SocketAddr};

use keys::{DiscoPublic, MachinePublic, NodePublic};
use rand_core::CryptoRng;
use tailcfg::go::GoTime;
use tailcfg::{CAP, Hostinfo, NodeId};

use super::{Refused, Tailnet};

/// Whose the nodes are.
const USER: &str = "paper";

impl Tailnet {
    /// Adds nodes with random keys, with endpoints and a home relay like others'. They count as connected.
    pub(crate) fn add_paper_nodes(
        &mut self,
        count: u32,
        now: GoTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<NodeId>, Refused> {
        let user = self.user_by_name(USER);
        let regions = self.derp_map.regions.iter().flat_map(|map| map.keys());
        let home_derp = regions.copied().next().unwrap_or_default();
        (0..count)
            .map(|_| {
                let machine = MachinePublic::from_bytes(random(rng));
                let id = self.add_node(machine, now, rng)?;
                let (key, disco) = (random(rng), random(rng));
                self.edit(id, |node| {
                    node.key = NodePublic::from_bytes(key);
                    node.disco = DiscoPublic::from_bytes(disco);
                    node.user = user;
                    node.approved = true;
                    node.online = true;
                    node.home_derp = home_derp;
                    node.cap = i32::from(CAP);
                    node.endpoints = endpoints(key);
                    node.hostinfo = Hostinfo {
                        os: "linux".into(),
                        ..Hostinfo::default()
                    };
                })?;
                self.rename(id, &format!("paper{id}"));
                Ok(id)
            })
            .collect()
    }
}

/// Addresses of TEST-NET-2 and TEST-NET-3, where nobody is.
fn endpoints(key: [u8; 32]) -> Vec<SocketAddr> {
    let [a, b, c, ..] = key;
    let port = 1024 + u16::from(b) * 200;
    vec![
        (Ipv4Addr::new(198, 51, 100, a), port).into(),
        (Ipv4Addr::new(203, 0, 113, c), port).into(),
    ]
}

fn random(rng: &mut dyn CryptoRng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}
