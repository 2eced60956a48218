//! Logins of every kind at headscale, asked for by Go's command line: of Go's daemon and of ours.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;
use testkit::originals::{self, Daemon, TailscaledOptions};
use testkit::wait_until;

use crate::common::*;
use crate::local::{local, local_ok};

/// Both daemons, each with a name for its node.
fn both(test: &str, options: &TailscaledOptions) -> [(&'static str, Daemon); 2] {
    [
        ("go", originals::go_tailscaled(test, options).unwrap()),
        ("ours", our_daemon(options)),
    ]
}

/// Runs `up` or `login`, lets the node in at the page that it names, and waits for its end.
fn log_in_at_the_page(tailnet: &Foreign, daemon: &Daemon, args: &[&str]) {
    #[expect(
        clippy::disallowed_methods,
        reason = "running the command line is the test"
    )]
    let mut command = std::process::Command::new(&tailnet.go_cli);
    let mut child = command
        .arg("--socket")
        .arg(daemon.socket())
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        said += &line;
        said.push('\n');
        if line.contains("/register/") {
            tailnet.headscale.register("tester", line.trim());
        }
    }
    let status = child.wait().unwrap();
    assert!(status.success(), "{args:?}: {said}\n{}", daemon.log());
    assert!(said.contains("Success."), "{said}");
}

fn nodes(tailnet: &Foreign) -> Vec<Value> {
    let list = tailnet.headscale.cli(&["nodes", "list", "-o", "json"]);
    serde_json::from_str(&list).unwrap_or_default()
}

fn node_of(tailnet: &Foreign, name: &str) -> Value {
    let mut nodes = nodes(tailnet).into_iter();
    nodes.find(|node| node["name"] == name).unwrap()
}

fn profiles(daemon: &Daemon) -> Value {
    serde_json::from_str(&local_ok(daemon, 200, "GET", "profiles/", "")).unwrap()
}

fn own_key(tailnet: &Foreign, daemon: &Daemon) -> String {
    let status = status(&tailnet.go_cli, daemon);
    status["Self"]["PublicKey"].as_str().unwrap().to_owned()
}

#[test]
fn somebody_opens_the_page() {
    let test = "somebody_opens_the_page";
    let Some(tailnet) = foreign(test, None) else {
        return;
    };
    let server = format!("--login-server={}", tailnet.headscale.url());
    for (name, daemon) in both(test, &TailscaledOptions::default()) {
        let host = format!("--hostname={name}");
        log_in_at_the_page(&tailnet, &daemon, &["up", &server, &host, "--timeout=60s"]);
        until_running(&tailnet.go_cli, &daemon);
        let key = own_key(&tailnet, &daemon);
        let again = [
            "up",
            &server,
            &host,
            "--force-reauth",
            "--timeout=60s",
            "--accept-risk=all",
        ];
        log_in_at_the_page(&tailnet, &daemon, &again);
        until_running(&tailnet.go_cli, &daemon);
        assert_ne!(own_key(&tailnet, &daemon), key, "{name} has a new key");
        assert_eq!(profiles(&daemon).as_array().unwrap().len(), 1, "{name}");
        log_in_at_the_page(
            &tailnet,
            &daemon,
            &["login", &server, "--nickname=two", "--timeout=60s"],
        );
        until_running(&tailnet.go_cli, &daemon);
    }
}

#[test]
fn tags_are_asked_for_and_had() {
    let test = "tags_are_asked_for_and_had";
    let policy = r#"{"tagOwners":{"tag:srv":["tester@"]},"acls":[{"action":"accept","src":["*"],"dst":["*:*"]}]}"#;
    let Some(tailnet) = foreign(test, Some(policy)) else {
        return;
    };
    let server = format!("--login-server={}", tailnet.headscale.url());
    let key = format!("--auth-key={}", tailnet.auth_key);
    let mut refusals = Vec::new();
    for (name, daemon) in both(test, &TailscaledOptions::default()) {
        let host = format!("--hostname={name}");
        let tags = "--advertise-tags=tag:srv";
        // The server gives no tags to whoever comes with a key that has none.
        let args = ["up", &server, &key, &host, tags, "--timeout=30s"];
        let refused = cli(&tailnet.go_cli, &daemon, &args);
        let lines = refused
            .stderr
            .lines()
            .filter(|line| !line.starts_with("Warning: client version"));
        refusals.push((refused.code, lines.map(str::to_owned).collect::<Vec<_>>()));
        let args = ["up", &server, &host, tags, "--timeout=60s"];
        log_in_at_the_page(&tailnet, &daemon, &args);
        until_running(&tailnet.go_cli, &daemon);
        let own = &status(&tailnet.go_cli, &daemon)["Self"];
        assert_eq!(own["Tags"], serde_json::json!(["tag:srv"]), "{name}");
    }
    assert_eq!(refusals[0], refusals[1]);
    assert_eq!(refusals[0].0, Some(1), "{refusals:?}");
}

#[test]
fn a_node_without_a_state_file_is_forgotten_when_it_ends() {
    let test = "a_node_without_a_state_file_is_forgotten_when_it_ends";
    let Some(mut tailnet) = foreign(test, None) else {
        return;
    };
    let user = tailnet.headscale.create_user("passing");
    tailnet.auth_key = tailnet.headscale.auth_key(&user, &["--ephemeral"]);
    let options = TailscaledOptions {
        flags: vec!["--state=mem:".into()],
        ..TailscaledOptions::default()
    };
    for (name, mut daemon) in both(test, &options) {
        tailnet.join(&daemon, name);
        assert_eq!(nodes(&tailnet).len(), 1, "{name}");
        let pid = rustix::process::Pid::from_raw(daemon.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        wait_until("the server to forget the node", || {
            nodes(&tailnet).is_empty().then_some(())
        });
        daemon.kill();
    }
}

#[test]
fn a_logout_that_control_does_not_hear_can_be_repeated() {
    let test = "a_logout_that_control_does_not_hear_can_be_repeated";
    let Some(mut tailnet) = foreign(test, None) else {
        return;
    };
    let daemons = both(test, &TailscaledOptions::default());
    for (name, daemon) in &daemons {
        tailnet.join(daemon, name);
    }
    tailnet.headscale.kill();
    for (name, daemon) in &daemons {
        let (code, said) = local(daemon, "POST", "logout", "");
        assert_eq!(code, 500, "{name}: {said}");
        assert_eq!(profiles(daemon).as_array().unwrap().len(), 1, "{name}");
    }
    tailnet.headscale.start_again();
    // The original forgets the key at the first try, and can only be logged in anew.
    let again = cli(&tailnet.go_cli, &daemons[0].1, &["logout"]);
    assert!(
        again.stderr.contains("no nodekey to log out"),
        "{}",
        again.stderr
    );
    let ours = &daemons[1].1;
    cli_ok(&tailnet.go_cli, ours, &["logout"]);
    assert_eq!(profiles(ours), Value::Array(Vec::new()));
    let state = &status(&tailnet.go_cli, ours)["BackendState"];
    assert_eq!(state, "NeedsLogin");
}

#[test]
fn a_key_that_the_server_lets_run_out_is_replaced_without_a_restart() {
    let test = "a_key_that_the_server_lets_run_out_is_replaced_without_a_restart";
    let Some(tailnet) = foreign(test, None) else {
        return;
    };
    let server = format!("--login-server={}", tailnet.headscale.url());
    let key = format!("--auth-key={}", tailnet.auth_key);
    let expire_on_the_server = |daemon: &Daemon| {
        let name = status(&tailnet.go_cli, daemon)["Self"]["HostName"].clone();
        let node = node_of(&tailnet, name.as_str().unwrap());
        let id = node["id"].as_str().unwrap();
        tailnet.headscale.cli(&["nodes", "expire", "-i", id]);
    };
    // The original asks for a new key with the same past expiry, and fails.
    let expire_here = |daemon: &Daemon| {
        let answer = local(daemon, "POST", "set-expiry-sooner?expiry=1", "");
        assert_eq!(answer, (200, "done\n".to_owned()));
    };
    let [(_, go), (_, ours)] = both(test, &TailscaledOptions::default());
    tailnet.join(&go, "go");
    tailnet.join(&ours, "ours");
    for (name, daemon, here) in [
        ("go", &go, false),
        ("ours", &ours, false),
        ("ours", &ours, true),
    ] {
        let old = own_key(&tailnet, daemon);
        if here {
            expire_here(daemon);
        } else {
            expire_on_the_server(daemon);
        }
        wait_until("the node to need a login", || {
            let state = status(&tailnet.go_cli, daemon);
            (state["BackendState"] == "NeedsLogin").then_some(())
        });
        let host = format!("--hostname={name}");
        let again = [
            "up",
            &server,
            &key,
            &host,
            "--force-reauth",
            "--timeout=60s",
            "--accept-risk=all",
        ];
        cli_ok(&tailnet.go_cli, daemon, &again);
        until_running(&tailnet.go_cli, daemon);
        assert_ne!(own_key(&tailnet, daemon), old, "{name}");
    }
}

#[test]
fn a_key_may_be_made_to_run_out_sooner() {
    let test = "a_key_may_be_made_to_run_out_sooner";
    let Some(tailnet) = foreign(test, None) else {
        return;
    };
    let mut answers = Vec::new();
    for (name, mut daemon) in both(test, &TailscaledOptions::default()) {
        let sooner = "set-expiry-sooner?expiry=2000000000";
        let before = local(&daemon, "POST", sooner, "");
        tailnet.join(&daemon, name);
        // The original would send the auth key along, which makes it another request.
        daemon.kill();
        daemon.start_again();
        until_running(&tailnet.go_cli, &daemon);
        let set = local(&daemon, "POST", sooner, "");
        let expiry = node_of(&tailnet, name)["expiry"].to_string();
        until_running(&tailnet.go_cli, &daemon);
        let wrong = ["", "?expiry=", "?expiry=soon"]
            .map(|query| local(&daemon, "POST", &format!("set-expiry-sooner{query}"), ""));
        let get = local(&daemon, "GET", sooner, "");
        answers.push((before.0, set, expiry, wrong, get));
    }
    assert_eq!(answers[0], answers[1]);
    // This server grants no other expiry than at once.
    let refused = "extending key is not allowed\n".to_owned();
    assert_eq!(answers[1].1, (400, refused));
}

#[test]
fn several_logins_move_between_the_daemons() {
    let test = "several_logins_move_between_the_daemons";
    let Some(tailnet) = foreign(test, None) else {
        return;
    };
    let other = tailnet.headscale.create_user("other");
    let other_key = format!("--auth-key={}", tailnet.headscale.auth_key(&other, &[]));
    let third = tailnet.headscale.create_user("third");
    let third_key = format!("--auth-key={}", tailnet.headscale.auth_key(&third, &[]));
    let server = format!("--login-server={}", tailnet.headscale.url());
    let dir = tempfile::tempdir().unwrap();
    let options = TailscaledOptions {
        state_dir: Some(dir.path().join("state")),
        ..TailscaledOptions::default()
    };
    let log_in = |daemon: &Daemon, key: &str, nickname: &str| {
        let nickname = format!("--nickname={nickname}");
        let args = ["login", &server, key, &nickname, "--timeout=60s"];
        cli_ok(&tailnet.go_cli, daemon, &args);
        until_running(&tailnet.go_cli, daemon);
    };
    let switch = |daemon: &Daemon, to: &str| {
        cli_ok(&tailnet.go_cli, daemon, &["switch", to]);
        until_running(&tailnet.go_cli, daemon);
        address(&tailnet.go_cli, daemon)
    };
    let list = |daemon: &Daemon| cli_ok(&tailnet.go_cli, daemon, &["switch", "--list"]);

    let mut go = originals::go_tailscaled(test, &options).unwrap();
    tailnet.join(&go, "one");
    let one = address(&tailnet.go_cli, &go);
    log_in(&go, &other_key, "second");
    let two = address(&tailnet.go_cli, &go);
    let (known, listed) = (profiles(&go), list(&go));
    go.kill();

    let mut ours = our_daemon(&options);
    until_running(&tailnet.go_cli, &ours);
    assert_eq!(address(&tailnet.go_cli, &ours), two);
    assert_eq!(profiles(&ours), known);
    assert_eq!(list(&ours), listed);
    assert_eq!(switch(&ours, "tester"), one);
    log_in(&ours, &third_key, "third");
    let three = address(&tailnet.go_cli, &ours);
    assert_eq!(switch(&ours, "second"), two);
    let (known, listed) = (profiles(&ours), list(&ours));
    assert_eq!(known.as_array().unwrap().len(), 3);
    ours.kill();

    let mut go = originals::go_tailscaled(test, &options).unwrap();
    until_running(&tailnet.go_cli, &go);
    assert_eq!(address(&tailnet.go_cli, &go), two);
    assert_eq!(profiles(&go), known);
    assert_eq!(list(&go), listed);
    assert_eq!(switch(&go, "third"), three);
    cli_ok(&tailnet.go_cli, &go, &["logout"]);
    let known = profiles(&go);
    go.kill();

    let ours = our_daemon(&options);
    assert_eq!(profiles(&ours), known);
    assert_eq!(switch(&ours, "tester"), one);
}
