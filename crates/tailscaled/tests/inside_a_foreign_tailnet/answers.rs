//! What the local API answers to requests that are wrong, or right: Go's daemon and ours, side by side.

use testkit::originals::{self, Daemon, TailscaledOptions};

use crate::common::*;
use crate::local::local;

/// Requests that change nothing, or are refused. Not among them: what is not built, which answers 501 here.
const HARMLESS: &[(&str, &str, &str)] = &[
    ("GET", "no-such-thing", ""),
    ("GET", "profiles", ""),
    ("GET", "prefs?x=y", ""),
    ("PUT", "prefs", "{}"),
    ("PATCH", "prefs", "{}"),
    ("PATCH", "prefs", r#"{"ExitNodeIDSet":true}"#),
    ("PATCH", "prefs", r#"{"InternalExitNodePriorSet":true}"#),
    ("PATCH", "prefs", r#"{"RunSSHSet":false,"RunSSH":true}"#),
    (
        "PATCH",
        "prefs",
        r#"{"HostnameSet":true,"Hostname":"badhostname.tailscale."}"#,
    ),
    (
        "PATCH",
        "prefs",
        r#"{"AdvertiseRoutesSet":true,"AdvertiseRoutes":["10.1.2.3/8","10.0.0.0/8"]}"#,
    ),
    (
        "PATCH",
        "prefs",
        r#"{"AdvertiseRoutesSet":true,"AdvertiseRoutes":["0.0.0.0/0","::/0"],"ExitNodeIPSet":true,"ExitNodeIP":"100.64.0.9"}"#,
    ),
    (
        "PATCH",
        "prefs",
        r#"{"AutoUpdateSet":{"ApplySet":true},"AutoUpdate":{"Apply":false}}"#,
    ),
    ("GET", "check-prefs", ""),
    ("POST", "check-prefs", ""),
    ("POST", "check-prefs", "{"),
    ("POST", "check-prefs", "{}"),
    (
        "POST",
        "check-prefs",
        r#"{"Hostname":"badhostname.tailscale.","AdvertiseRoutes":["10.1.2.3/8"]}"#,
    ),
    ("GET", "start", ""),
    ("POST", "start", ""),
    (
        "POST",
        "start",
        r#"{"UpdatePrefs":{"Hostname":"badhostname.tailscale."}}"#,
    ),
    ("GET", "login-interactive", ""),
    ("GET", "logout", ""),
    ("GET", "reset-auth", ""),
    ("GET", "watch-ipn-bus?mask=x", ""),
    ("GET", "watch-ipn-bus?mask=-1", ""),
    ("GET", "watch-ipn-bus?mask=65536", ""),
    ("GET", "watch-ipn-bus?mask=4352", ""),
    ("GET", "watch-ipn-bus?mask=61696", ""),
    ("GET", "watch-ipn-bus?mask=99999999999999999999", ""),
    ("GET", "whois", ""),
    ("GET", "whois?addr=x", ""),
    ("GET", "whois?addr=100.64.0.77", ""),
    ("GET", "whois?addr=100.64.0.77:1", ""),
    ("GET", "whois?addr=nodekey:12", ""),
    ("GET", "ping", ""),
    ("POST", "ping", ""),
    ("POST", "ping?ip=x", ""),
    ("POST", "ping?ip=100.64.0.77", ""),
    ("POST", "ping?ip=100.64.0.77&type=TSMP&size=1", ""),
    ("POST", "ping?ip=100.64.0.77&type=disco&size=x", ""),
    ("POST", "ping?ip=100.64.0.77&type=disco&size=9999999", ""),
    ("GET", "dial", ""),
    ("POST", "dial", ""),
    ("POST", "profiles/", ""),
    ("DELETE", "profiles/", ""),
    ("PUT", "profiles/current", ""),
    ("POST", "profiles/current", ""),
    ("PUT", "profiles/ffff", ""),
    ("GET", "profiles/ffff", ""),
    ("POST", "profiles/ffff", ""),
    ("DELETE", "profiles/ffff", ""),
    ("POST", "profiles/a%2fb", ""),
    ("GET", "profiles/..%2f", ""),
    ("POST", "derpmap", ""),
    ("POST", "logtap", ""),
    ("GET", "shutdown", ""),
    ("GET", "peer-by-id", ""),
    ("GET", "peer-by-id?id=x", ""),
    ("GET", "peer-by-id?id=77", ""),
    ("GET", "user-profile", ""),
    ("GET", "user-profile?id=x", ""),
    ("GET", "user-profile?id=77", ""),
    ("GET", "bugreport", ""),
    ("GET", "check-ip-forwarding", ""),
    ("GET", "check-udp-gro-forwarding", ""),
    ("GET", "check-so-mark-in-use", ""),
    ("GET", "debug", ""),
    ("POST", "debug", ""),
    ("POST", "debug?action=nonsense", ""),
    ("POST", "debug?action=restun", ""),
    ("POST", "debug?action=clear-netmap-cache", ""),
    ("GET", "cert-domains", ""),
    ("GET", "component-debug-logging", ""),
    ("GET", "component-debug-logging?component=x&secs=1", ""),
    ("GET", "set-expiry-sooner", ""),
    ("POST", "set-expiry-sooner", ""),
    ("POST", "set-expiry-sooner?expiry=x", ""),
    ("GET", "set-use-exit-node-enabled", ""),
    ("POST", "set-use-exit-node-enabled", ""),
    ("POST", "set-use-exit-node-enabled?enabled=maybe", ""),
    ("POST", "set-use-exit-node-enabled?enabled=true", ""),
];

/// Where the words differ for a reason: what a JSON library says of what it cannot read.
fn is_about_json(body: &str) -> bool {
    body.contains("JSON") || body.contains("EOF") || body.contains("json")
}

#[test]
fn requests_are_answered_alike() {
    let test = "requests_are_answered_alike";
    let Some(tailnet) = foreign(test, None) else {
        return;
    };
    let options = TailscaledOptions::default();
    let go = originals::go_tailscaled(test, &options).unwrap();
    let ours = our_daemon(&options);
    let mut differences = String::new();
    let mut compare = |when: &str| {
        for (method, path, body) in HARMLESS {
            let ask = |daemon: &Daemon| {
                let (status, answer) = local(daemon, method, path, body);
                // A node's own name and number, and what we never take over.
                let answer = answer
                    .replace("\"Apply\": false", "\"Apply\": null")
                    .replace("\"Hostname\": \"go\"", "\"Hostname\": \"ours\"")
                    .replace("\"NodeID\": \"1\"", "\"NodeID\": \"2\"");
                (status, answer)
            };
            let (theirs, ours) = (ask(&go), ask(&ours));
            let alike = theirs == ours || (theirs.0 == ours.0 && is_about_json(&theirs.1));
            if !alike {
                differences += &format!(
                    "{when}: {method} {path} {body}\n  Go:   {theirs:?}\n  ours: {ours:?}\n"
                );
            }
        }
    };
    compare("logged out");
    tailnet.join(&go, "go");
    tailnet.join(&ours, "ours");
    compare("running");
    assert!(differences.is_empty(), "{differences}");
}
