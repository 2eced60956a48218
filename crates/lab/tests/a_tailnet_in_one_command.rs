//! The lab as a user runs it.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]
#![expect(clippy::disallowed_methods, reason = "running the lab is the test")]

use std::path::Path;
use std::process::{Command, Output};

/// Cargo builds all programs before it runs any test, but only if it is asked to test all of them.
fn lab(test: &str, args: &[&str]) -> Option<Output> {
    let program = Path::new(env!("CARGO_BIN_EXE_lab"));
    for other in ["tailscaled", "tailscale"] {
        if !program.with_file_name(other).exists() {
            testkit::originals::skip(
                test,
                &format!("`{other}` is not built; run cargo test for the whole workspace"),
            );
            return None;
        }
    }
    Some(Command::new(program).args(args).output().unwrap())
}

#[test]
fn one_round_moves_data_and_says_so_in_json() {
    let test = "one_round_moves_data_and_says_so_in_json";
    one_round(test, &["--json"], true);
}

#[test]
fn with_relays_only_nothing_is_direct() {
    let test = "with_relays_only_nothing_is_direct";
    one_round(test, &["--json", "--relay-only"], false);
}

fn one_round(test: &str, args: &[&str], direct: bool) {
    let Some(output) = lab(test, args) else {
        return;
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], true);
    let pairs = report["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 2);
    for pair in pairs {
        assert_eq!(pair["direct"], direct, "{pair}");
        assert!(
            pair["rtt_ms"].as_f64().unwrap() > 0.0 && pair["mbit_per_s"].as_f64().unwrap() > 0.0,
            "{pair}"
        );
    }
    assert_eq!(
        (&pairs[0]["from"], &pairs[0]["to"]),
        (&"node1".into(), &"node2".into())
    );
}

#[test]
fn a_kept_directory_is_private_and_the_nodes_keep_their_addresses() {
    use std::os::unix::fs::PermissionsExt as _;
    let test = "a_kept_directory_is_private_and_the_nodes_keep_their_addresses";
    let dir = tempfile::tempdir().unwrap();
    let keep = dir.path().join("kept");
    let args = ["--once", "--keep", keep.to_str().unwrap()];
    let address = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text.lines()
            .find(|line| line.contains("node1 is Running"))
            .unwrap()
            .to_owned()
    };
    let Some(first) = lab(test, &args) else {
        return;
    };
    assert_eq!(
        std::fs::metadata(&keep).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let Some(second) = lab(test, &args) else {
        return;
    };
    assert_eq!(address(&first), address(&second));
}

#[test]
fn bad_options_are_refused() {
    let Some(output) = lab("bad_options_are_refused", &["--nodes", "1"]) else {
        return;
    };
    assert_eq!(output.status.code(), Some(2));
}
