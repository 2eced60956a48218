//! With `--snat-subnet-routes=false` hosts behind it see who it is.

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
        "--snat-subnet-routes=false",
    ])?;
    stage.approve(&router, &["10.88.0.0/24"])?;
    client.cli(&["set", "--accept-routes"])?;
    let mirror = servers::mirror(&lan, [10, 88, 0, 2].into())?;
    client.until_sh("ping -c1 -W1 10.88.0.2")?;
    let seen = servers::seen_as(client.site.node(), mirror)?;
    let own = client.address()?;
    ensure!(seen == own, "the host behind it sees {seen}, not {own}");
    Verdict::pass()
}
