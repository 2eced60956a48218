//! Hosts behind it see its own address, and need no way back.

use super::Verdict;
use crate::host::servers;
use crate::host::stage::Stage;
use anyhow::{Result, ensure};

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let router = stage.node("router")?;
    let client = stage.node("client")?;
    let lan = stage.subnet_behind(&router)?;
    router.cli(&[
        "set",
        "--advertise-routes=10.88.0.0/24",
        "--snat-subnet-routes=true",
    ])?;
    stage.approve(&router, &["10.88.0.0/24"])?;
    client.cli(&["set", "--accept-routes"])?;
    let mirror = servers::mirror(&lan, [10, 88, 0, 2].into())?;
    client.until_sh("ping -c1 -W1 10.88.0.2")?;
    let seen = servers::seen_as(client.site.node(), mirror)?;
    ensure!(
        seen == std::net::IpAddr::from([10, 88, 0, 1]),
        "the host behind it sees {seen}"
    );
    Verdict::pass()
}
