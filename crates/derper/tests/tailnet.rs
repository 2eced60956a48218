//! The relay in a tailnet of the originals: headscale and two Go nodes, which may use no other path.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "starts the program under test; what fails here fails the test"
)]

use std::path::Path;
use std::process::Command;

use testkit::originals::{
    Daemon, HeadscaleOptions, TailscaledOptions, derp_map_yaml, go_cli, go_tailscaled, headscale,
};
use testkit::{Process, free_port, wait_until};

struct Derper {
    process: Process,
    cert_name: String,
}

fn derper(dir: &Path, port: u16, stun_port: u16) -> Derper {
    let mut command = Command::new(env!("CARGO_BIN_EXE_derper"));
    command
        .arg(format!("-a=127.0.0.1:{port}"))
        .arg(format!("-stun-port={stun_port}"))
        .args(["-http-port=-1", "-certmode=manual", "-hostname=127.0.0.1"])
        .arg("-certdir")
        .arg(dir.join("certs"))
        .arg("-c")
        .arg(dir.join("derper.key"));
    let mut process = Process::start("our derper", command, &dir.join("derper.log"));
    let cert_name = process.wait_ready(|process| {
        let log = process.log();
        let (_, rest) = log.rsplit_once("sha256-raw:")?;
        Some(format!("sha256-raw:{}", rest.get(..64)?))
    });
    Derper { process, cert_name }
}

fn cli(test: &str, node: &Daemon, args: &[&str]) -> Option<String> {
    let output = go_cli(test, &node.socket(), args)?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn go_nodes_meet_at_our_relay() {
    const TEST: &str = "go_nodes_meet_at_our_relay";
    let dir = tempfile::tempdir().unwrap();
    let (port, stun_port) = (free_port(), free_port());
    let relay = derper(dir.path(), port, stun_port);
    let options = HeadscaleOptions {
        derp_map: Some(derp_map_yaml(
            "127.0.0.1",
            port,
            Some(&relay.cert_name),
            i32::from(stun_port),
        )),
        ..HeadscaleOptions::default()
    };
    let Some(control) = headscale(TEST, &options) else {
        return;
    };
    let key = control.auth_key(&control.create_user("u"), &[]);
    let url = control.url();
    let always_relay = TailscaledOptions {
        env: vec![("TS_DEBUG_ALWAYS_USE_DERP".to_owned(), "1".to_owned())],
        ..TailscaledOptions::default()
    };
    let up = |name: &str| {
        let node = go_tailscaled(TEST, &always_relay)?;
        let login = format!("--login-server={url}");
        let auth = format!("--auth-key={key}");
        let host = format!("--hostname={name}");
        cli(TEST, &node, &["up", &login, &auth, &host, "--timeout=30s"])?;
        Some(node)
    };
    let (Some(a), Some(b)) = (up("a"), up("b")) else {
        return;
    };
    let b_ip = cli(TEST, &b, &["ip", "-4"]).unwrap().trim().to_owned();
    let pings = |kind: &str| {
        let args = [
            "ping",
            kind,
            "--c=1",
            "--timeout=2s",
            "--until-direct=false",
            &b_ip,
        ];
        cli(TEST, &a, &args).filter(|text| text.contains("pong from"))
    };
    let disco = wait_until("a disco ping through the relay", || pings("--verbose"));
    assert!(disco.contains("via DERP(test)"), "{disco}");
    wait_until("a TSMP ping through the relay", || pings("--tsmp"));
    wait_until("an ICMP ping through the relay", || pings("--icmp"));
    let netcheck = cli(TEST, &a, &["netcheck"]).unwrap();
    assert!(netcheck.contains("Nearest DERP: Test"), "{netcheck}");
    assert!(netcheck.contains("UDP: true"), "{netcheck}");

    let Derper { mut process, .. } = relay;
    process.kill();
    let again = derper(dir.path(), port, stun_port);
    assert_eq!(
        again.cert_name,
        options
            .derp_map
            .as_deref()
            .map(|map| {
                let (_, rest) = map.split_once("sha256-raw:").unwrap();
                format!("sha256-raw:{}", &rest[..64])
            })
            .unwrap()
    );
    let disco = wait_until("a ping through the relay's second life", || {
        pings("--verbose")
    });
    assert!(disco.contains("via DERP(test)"), "{disco}");
}
