//! What a change of settings would do to the machine can be asked without doing it.

use super::Verdict;
use crate::host::machine::same;
use crate::host::stage::Stage;
use anyhow::{Result, ensure};

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    let client = stage.node("client")?;
    let router = stage.node("router")?;
    router.cli(&["set", "--advertise-routes=10.88.0.0/24"])?;
    stage.approve(&router, &["10.88.0.0/24"])?;
    client.until_pings(router.address()?)?;
    client.until_asks_us()?;
    let as_it_should_be = |client: &crate::host::machine::Machine| -> Result<bool> {
        Ok(client
            .cli(&["debug", "system", "diff"])?
            .contains("is as it should be"))
    };
    client.until("the machine is as it should be", as_it_should_be)?;
    let server = format!("--login-server={}", stage.tailnet.url);
    let before = client.traces()?;
    let preview = client.cli(&["set", "--dry-run", "--accept-routes"])?;
    let expected = "add the route to 10.88.0.0/24";
    ensure!(
        preview.contains(expected) && preview.contains("router"),
        "{preview}"
    );
    let preview = client.cli(&[
        "up",
        "--dry-run",
        "--netfilter-mode=off",
        "--hostname=client",
        &server,
    ])?;
    ensure!(preview.contains("remove our IPv4 rules"), "{preview}");
    same(&before, &client.traces()?)?;
    let nothing = client.cli(&["set", "--dry-run", "--hostname=other"])?;
    ensure!(nothing.contains("Nothing"), "{nothing}");
    Verdict::pass()
}
