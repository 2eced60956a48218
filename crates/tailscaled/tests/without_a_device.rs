//! A machine that has no tunnel devices to give: the daemon goes on without one and says so, unless one was asked for.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]
#![expect(clippy::disallowed_methods, reason = "running the daemon is the test")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use testkit::Process;

/// The daemon in namespaces of its own, where there is no `/dev/net/tun`; `None` where these cannot be made.
fn daemon(test: &str, dir: &Path, args: &[&str]) -> Option<Command> {
    let can = Command::new("unshare").args(["-n", "-m", "true"]).output();
    if !can.is_ok_and(|done| done.status.success()) {
        testkit::originals::skip(test, "only root can make network namespaces");
        return None;
    }
    let hide = "mount -t tmpfs none /dev/net && exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["-n", "-m", "sh", "-c", hide, "sh"])
        .arg(env!("CARGO_BIN_EXE_tailscaled"))
        .arg("--no-logs-no-support")
        .arg(format!("--socket={}", dir.join("s.sock").display()))
        .arg(format!("--statedir={}", dir.join("state").display()))
        .args(args)
        .stdin(Stdio::null());
    Some(command)
}

fn status(dir: &Path) -> Option<String> {
    let mut socket = UnixStream::connect(dir.join("s.sock")).ok()?;
    let ask = "GET /localapi/v0/status HTTP/1.1\r\nHost: local-tailscaled.sock\r\nConnection: close\r\n\r\n";
    socket.write_all(ask.as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn a_machine_without_devices_gets_a_daemon_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut command) = daemon("without a device", dir.path(), &[]) else {
        return;
    };
    command.env_remove("TS_PARENT_DEATH_FD");
    let mut daemon = Process::start("tailscaled", command, &dir.path().join("log"));
    daemon.wait_ready(|_| {
        let status = status(dir.path())?;
        status.contains("\"TUN\": false").then_some(())
    });
    let log = daemon.log();
    assert!(log.contains("going on without a device"), "{log}");
}

#[test]
fn whoever_asks_for_a_device_gets_one_or_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let asked = ["--tun=tailscale0"];
    let Some(mut command) = daemon("asked for a device", dir.path(), &asked) else {
        return;
    };
    let Output { status, stderr, .. } = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("createEngine: tstun.New(\"tailscale0\")"),
        "{stderr}"
    );
}
