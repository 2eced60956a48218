//! Away from home, the same addresses are reached through the peer that offers them.

use super::Verdict;
use crate::host::stage::Stage;
use anyhow::Result;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let client = stage.node("client")?;
    let router = stage.node("router")?;
    router.sh("sysctl -q net.ipv4.ip_forward=1; ip link add home type bridge; ip addr add 10.77.0.9/24 dev home; ip link set home up")?;
    client.sh("ip link add home type bridge; ip addr add 10.77.0.1/24 dev home; ip link set home up; ip link add cable type veth peer name plug; ip link set cable master home up; ip link set plug up")?;
    router.cli(&["set", "--advertise-routes=10.77.0.0/24"])?;
    stage.approve(&router, &["10.77.0.0/24"])?;
    client.cli(&["set", "--accept-routes"])?;
    client.until_sh("ip route show table 52 | grep -q 10.77.0.0/24")?;
    client.sh("ip link del home")?;
    let took = client.until_sh("ping -c1 -W0.1 10.77.0.9")?;
    Ok(Verdict::Pass(format!("{} ms", took.as_millis())))
}
