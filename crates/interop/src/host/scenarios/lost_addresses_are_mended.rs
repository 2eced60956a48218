//! Of the device.

use anyhow::Result;

use super::Verdict;
use crate::host::stage::Stage;

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    stage.mends(
        "ip -o addr show dev tailscale0 scope global | sed s/.*inet/inet/ | sort; ip route show table 52",
        "ip addr flush dev tailscale0 scope global",
    )
}
