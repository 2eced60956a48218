//! A daemon with a state, and what a command line leaves there as one text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cli::Env;

use super::canned::{Answer, CannedDaemon, answer};
use super::{Outcome, ours_in};

/// The version that a daemon of ours says.
pub(crate) const OURS: &str = "test-version";

pub(crate) const STATUS: &str = "GET /localapi/v0/status";
pub(crate) const OWN_STATUS: &str = "GET /localapi/v0/status?peers=false";
pub(crate) const PREFS: &str = "GET /localapi/v0/prefs";
pub(crate) const PATCH: &str = "PATCH /localapi/v0/prefs";
pub(crate) const BUS: &str = "GET /localapi/v0/watch-ipn-bus?mask=0";

pub(crate) fn env(more: &[(&str, &str)]) -> Env {
    let vars = [("TS_DEBUG_FAKE_IPC_VERSION", OURS), ("USER", "ann")];
    let vars = vars
        .iter()
        .chain(more)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Env {
        vars: vars.collect::<BTreeMap<_, _>>(),
        uid: Some(1000),
    }
}

/// A daemon in a state, with nothing stored and an answer to each command of `up`.
pub(crate) fn daemon(state: &str, more: Vec<Answer>) -> CannedDaemon {
    let status = format!(
        r#"{{"Version":"{OURS}","BackendState":"{state}","AuthURL":"","TailscaleIPs":null,"Self":{{"PublicKey":"nodekey:{:064}"}},"Health":null,"Peer":null}}"#,
        1
    );
    let defaults = [
        answer(STATUS, 200, status.clone()),
        answer(OWN_STATUS, 200, status),
        answer(
            PREFS,
            200,
            "{\"CorpDNS\":true,\"NetfilterMode\":2,\"NoStatefulFiltering\":true}",
        ),
        answer(PATCH, 200, "{}"),
        answer("POST /localapi/v0/check-prefs", 200, "{}"),
        answer("POST /localapi/v0/start", 204, ""),
        answer("POST /localapi/v0/login-interactive", 204, ""),
        answer("POST /localapi/v0/logout", 204, ""),
    ];
    CannedDaemon::start(OURS, more.into_iter().chain(defaults).collect())
}

pub(crate) fn run_in(env: &Env, daemon: &CannedDaemon, args: &[&str]) -> Outcome {
    ours_in(env, &daemon.socket(), args, b"", false)
}

pub(crate) fn run(daemon: &CannedDaemon, args: &[&str]) -> Outcome {
    run_in(&env(&[]), daemon, args)
}

/// The outcome, and what the daemon was told to do.
pub(crate) fn story(daemon: &CannedDaemon, outcome: &Outcome) -> String {
    let mut out = format!(
        "exit {}\n--- stdout\n{}--- stderr\n{}--- requests\n",
        outcome.code, outcome.stdout, outcome.stderr
    );
    for command in daemon.commands() {
        let _ = writeln!(out, "{command}");
    }
    out.replace(&daemon.socket().display().to_string(), "[socket]")
}

/// A test: what the command line leaves, as a snapshot.
#[allow(unused_macros, reason = "each test program uses a part of it")]
macro_rules! tells {
    ($name:ident, $daemon:expr, $args:expr) => {
        #[test]
        fn $name() {
            let daemon = $daemon;
            let outcome = crate::common::story::run(&daemon, &$args);
            let story = crate::common::story::story(&daemon, &outcome);
            insta::assert_snapshot!(stringify!($name), story);
        }
    };
}
