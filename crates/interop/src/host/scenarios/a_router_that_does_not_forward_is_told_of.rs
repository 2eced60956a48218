//! Who offers routes on a machine that does not forward hears of it in the health, until the machine forwards.

use super::Verdict;
use crate::host::machine::Machine;
use crate::host::stage::Stage;
use anyhow::{Result, ensure};

const TOLD: &str = "IP forwarding is disabled";

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let router = stage.node("router")?;
    let is_told = |router: &Machine| -> Result<bool> {
        let status: serde_json::Value = serde_json::from_str(&router.cli(&["status", "--json"])?)?;
        Ok(status["Health"].to_string().contains(TOLD))
    };
    router.sh("sysctl -q net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0")?;
    let server = format!("--login-server={}", stage.tailnet.url);
    let said = router.cli(&[
        "up",
        &server,
        "--hostname=router",
        "--advertise-routes=10.88.0.0/24",
    ])?;
    ensure!(said.contains("IP forwarding is disabled"), "{said}");
    // As every link is at first, and as few people know.
    let slow = "UDP GRO forwarding is suboptimally configured on eth0";
    ensure!(said.contains(slow), "{said}");
    router.until("it is told that the machine does not forward", is_told)?;
    router.sh("sysctl -q net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")?;
    let took = router.until("it is told that the machine forwards", |router| {
        Ok(!is_told(router)?)
    })?;
    Ok(Verdict::Pass(format!("{} ms", took.as_millis())))
}
