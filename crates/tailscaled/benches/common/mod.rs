//! What the benches share: the programs, logging in, and what the kernel counts.
#![allow(dead_code, reason = "each bench uses a part")]

use std::path::PathBuf;
use std::time::Duration;

use localapi::Client;
use tailcfg::go::Secret;
use testkit::originals::Daemon;

/// Our daemon, and the original where it is named.
pub(crate) fn programs() -> Vec<PathBuf> {
    let mut programs = vec![PathBuf::from(env!("CARGO_BIN_EXE_tailscaled"))];
    programs.extend(std::env::var_os("TS_GO_TAILSCALED").map(PathBuf::from));
    if programs.len() == 1 {
        eprintln!("set TS_GO_TAILSCALED to the original's path to have it measured too");
    }
    programs
}

/// Logs the daemon in with an auth key.
pub(crate) async fn log_in(node: &Daemon, url: &str, key: &str) -> anyhow::Result<()> {
    let client = Client::new(node.socket());
    let mut prefs = client.prefs().await?;
    url.clone_into(&mut prefs.control_url);
    prefs.want_running = true;
    prefs.logged_out = false;
    let options = ipn::Options {
        update_prefs: Some(Box::new(prefs)),
        auth_key: Secret::new(key.to_owned()),
        ..ipn::Options::default()
    };
    client.start(&options).await?;
    client.login_interactive().await?;
    Ok(())
}

/// Waits until the daemon is Running.
pub(crate) async fn running(node: &Daemon) -> anyhow::Result<()> {
    for _ in 0..12_000 {
        if let Ok(status) = Client::new(node.socket()).status_without_peers().await
            && status.backend_state == "Running"
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    anyhow::bail!("not Running after a minute:\n{}", node.log())
}

/// What the kernel counts for a process.
pub(crate) struct Usage {
    pub(crate) rss_kib: u64,
    pub(crate) cpu: Duration,
    pub(crate) switches: u64,
    pub(crate) written: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
        let number = |text: &str, name: &str| {
            let line = text
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_default();
            line.split_whitespace()
                .nth(1)
                .and_then(|word| word.parse::<u64>().ok())
                .unwrap_or_default()
        };
        let mut switches = 0;
        let mut nanos = 0;
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            switches += number(
                &std::fs::read_to_string(task.join("status"))?,
                "voluntary_ctxt_switches",
            );
            let ran = std::fs::read_to_string(task.join("schedstat"))?;
            nanos += ran
                .split_whitespace()
                .next()
                .and_then(|word| word.parse::<u64>().ok())
                .unwrap_or_default();
        }
        Ok(Self {
            rss_kib: number(&read("status")?, "VmRSS"),
            cpu: Duration::from_nanos(nanos),
            switches,
            written: number(&read("io")?, "write_bytes"),
        })
    }
}
