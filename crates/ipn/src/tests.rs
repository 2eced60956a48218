//! Golden JSON: what the originals' daemon 1.103 answered on its local API, and what it keeps on disk.

use std::sync::Arc;

use keys::NodePrivate;
use tailcfg::go::{self, GoTime};

use crate::health::{self, Args, Severity, Warnable, arg};
use crate::*;

/// `GET prefs` of a daemon that nobody has logged in to.
const FRESH_PREFS: &str = r#"{"ControlURL":"","RouteAll":false,"ExitNodeID":"","ExitNodeIP":"","InternalExitNodePrior":"","ExitNodeAllowLANAccess":false,"CorpDNS":true,"RunSSH":false,"RunWebClient":false,"WantRunning":false,"LoggedOut":true,"ShieldsUp":false,"AdvertiseTags":null,"Hostname":"","NotepadURLs":false,"AdvertiseRoutes":null,"AdvertiseServices":null,"Sync":null,"NoSNAT":false,"NoStatefulFiltering":true,"NetfilterMode":2,"AutoUpdate":{"Check":true,"Apply":null},"AppConnector":{"Advertise":false},"PostureChecking":false,"NetfilterKind":"","RemoteConfig":false,"DriveShares":null,"Config":null}"#;

/// `GET status` of the same daemon, on a machine called `vm`, without its health texts.
const FRESH_STATUS: &str = r#"{"Version":"1.103.0","TUN":false,"BackendState":"NeedsLogin","AuthURL":"","TailscaleIPs":null,"Self":{"ID":"","NodeID":0,"PublicKey":"nodekey:0000000000000000000000000000000000000000000000000000000000000000","HostName":"vm","DNSName":"","OS":"linux","UserID":0,"TailscaleIPs":null,"Addrs":[],"CurAddr":"","Relay":"","PeerRelay":"","RxBytes":0,"TxBytes":0,"Created":"0001-01-01T00:00:00Z","LastWrite":"0001-01-01T00:00:00Z","LastSeen":"0001-01-01T00:00:00Z","LastHandshake":"0001-01-01T00:00:00Z","Online":false,"ExitNode":false,"ExitNodeOption":false,"Active":false,"PeerAPIURL":null,"TaildropTarget":0,"NoFileSharingReason":"","InNetworkMap":false,"InMagicSock":false,"InEngine":false},"Health":["Tailscale is stopped."],"MagicDNSSuffix":"","CurrentTailnet":null,"CertDomains":null,"ExtraRecords":null,"Peer":null,"User":null,"ClientVersion":null}"#;

/// The first message for mask 2.
const FIRST_NOTIFY: &str = r#"{"Version":"1.103.0","SessionID":"2c826f587310c660","ErrMessage":null,"LoginFinished":null,"State":2,"Prefs":null,"NetMap":null,"Engine":null,"BrowseToURL":null,"DriveShares":null}"#;

fn round_trip<T: serde::de::DeserializeOwned + serde::Serialize>(golden: &str) -> T {
    let value: T = serde_json::from_str(golden).expect("golden JSON decodes");
    assert_eq!(go::to_string(&value).expect("encodes"), golden);
    value
}

#[test]
fn fresh_prefs_are_those_of_the_originals() {
    let decoded: Prefs = round_trip(FRESH_PREFS);
    let mut fresh = Prefs::new();
    fresh.logged_out = true;
    assert_eq!(decoded, fresh);
}

#[test]
fn status_and_notify_are_those_of_the_originals() {
    let status: Status = round_trip(FRESH_STATUS);
    assert_eq!(
        State::from_name(&status.backend_state),
        Some(State::NeedsLogin)
    );
    let notify: Notify = round_trip(FIRST_NOTIFY);
    assert_eq!(notify.state, Some(State::NeedsLogin));
    let empty: Notify = serde_json::from_str("{}").expect("all is optional");
    assert_eq!(empty, Notify::default());
}

#[test]
fn login_finished_is_an_empty_object() {
    let notify = Notify {
        login_finished: Some(Empty {}),
        ..Notify::default()
    };
    let text = go::to_string(&notify).expect("encodes");
    assert!(text.contains(r#""LoginFinished":{},"#), "{text}");
}

#[test]
fn unknown_fields_survive_in_the_state_file() {
    let key = NodePrivate::from_bytes([7; 32]);
    let stored = format!(
        "{{\"Shiny\":{{\"a\":[1,2]}},\"CorpDNS\":false,\"Config\":{{\"PrivateNodeKey\":\"{}\",\"NodeID\":\"n1\",\"Newer\":true}}}}",
        key.expose_text().as_str()
    );
    let prefs = Prefs::from_stored(stored.as_bytes()).expect("decodes");
    assert!(!prefs.corp_dns);
    assert_eq!(
        prefs.netfilter_mode,
        NetfilterMode::ON,
        "absent keeps the default"
    );
    let persist = prefs.persist.clone().expect("identity");
    assert!(persist.private_node_key == key);

    let written = prefs.to_stored();
    let text = std::str::from_utf8(&written).expect("text");
    assert!(
        text.starts_with("{\n\t\"ControlURL\": \"\",\n"),
        "tabs, as the originals write"
    );
    let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(json["Shiny"]["a"][1], 2);
    assert_eq!(json["Config"]["Newer"], true);
    assert_eq!(Prefs::from_stored(&written).expect("again"), prefs);
}

#[test]
fn secrets_do_not_leave() {
    let prefs = Prefs {
        persist: Some(Arc::new(Persist {
            private_node_key: NodePrivate::from_bytes([7; 32]),
            old_private_node_key: NodePrivate::from_bytes([9; 32]),
            node_id: "n1".to_owned(),
            ..Persist::default()
        })),
        ..Prefs::new()
    };
    let shown = go::to_string(&prefs.without_secrets()).expect("encodes");
    assert!(shown.contains(&format!(
        "\"PrivateNodeKey\":\"privkey:{}\"",
        "0".repeat(64)
    )));
    assert!(shown.contains(&format!(
        "\"NetworkLockKey\":\"nlpriv:{}\"",
        "0".repeat(128)
    )));
    assert!(!shown.contains("0707") && !format!("{prefs:?}").contains("0707"));
}

#[test]
fn bad_stored_prefs_do_not_show_their_content() {
    let error = Prefs::from_stored(br#"{"Config":{"PrivateNodeKey":"privkey:zz"}}"#)
        .expect_err("no such key");
    assert!(
        error
            .to_string()
            .starts_with("decode stored prefs: bad JSON at line 1 column")
    );
    assert!(Prefs::from_stored(b"[1]").is_err());
    assert!(Prefs::from_stored(b"{} {}").is_err());
    assert_eq!(Prefs::from_stored(b"").expect("absent"), Prefs::new());
}

#[test]
fn an_edit_touches_what_it_names() {
    let edit: MaskedPrefs = serde_json::from_str(
        r#"{"WantRunning":true,"WantRunningSet":true,"Hostname":"ignored","AutoUpdate":{"Check":false,"Apply":true},"AutoUpdateSet":{"ApplySet":true},"config":null}"#,
    )
    .expect("decodes");
    assert_eq!(edit.names(), ["WantRunning", "AutoUpdate"]);
    let mut prefs = Prefs::new();
    prefs.apply(&edit);
    assert!(prefs.want_running && prefs.auto_update.check);
    assert_eq!(prefs.auto_update.apply, Some(true));
    assert_eq!(prefs.hostname, "");
    let text = go::to_string(&edit).expect("encodes");
    assert!(
        text.ends_with(r#""Config":null,"WantRunningSet":true,"AutoUpdateSet":{"ApplySet":true}}"#)
    );
    assert!(MaskedPrefs::default().is_empty() && !edit.is_empty());
}

#[test]
fn an_edit_takes_names_in_any_case() {
    let edit: MaskedPrefs =
        serde_json::from_str(r#"{"wantrunning":true,"wantRunningSet":true}"#).expect("decodes");
    assert!(edit.want_running_set && edit.prefs.want_running);
}

#[test]
fn health_texts_are_those_that_scripts_match() {
    assert_eq!(
        Warnable::WantRunningFalse.text(&Args::new()),
        "Tailscale is stopped."
    );
    assert_eq!(
        Warnable::LoginState.text(&Args::new()),
        "You are logged out."
    );
    let with = |pairs: &[(&str, &str)]| -> Args {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    assert_eq!(
        Warnable::LoginState.text(&with(&[(arg::ERROR, "no")])),
        "You are logged out. The last login error was: no"
    );
    assert_eq!(
        Warnable::NoDerpConnection.text(&with(&[(arg::DERP_REGION_ID, "999")])),
        "Tailscale could not connect to the relay server with ID '999'. Your Internet connection might be down, or the server might be temporarily unavailable."
    );
    assert_eq!(
        Warnable::NoDerpConnection.text(&with(&[(arg::DERP_REGION_NAME, "Lab")])),
        "Tailscale could not connect to the 'Lab' relay server. Your Internet connection might be down, or the server might be temporarily unavailable."
    );
}

#[test]
fn health_on_the_bus() {
    let since: GoTime = "2026-11-22T20:12:22.440825298Z".parse().expect("time");
    let args = Args::from([(arg::STATE.to_owned(), "NeedsLogin".to_owned())]);
    let mut state = Warnable::WantRunningFalse.unhealthy(since, Some(&args));
    assert!(!state.etag.is_empty());
    state.etag = String::new();
    assert_eq!(
        go::to_string(&state).expect("encodes"),
        r#"{"WarnableCode":"wantrunning-false","Severity":"low","Title":"Tailscale off","Text":"Tailscale is stopped.","BrokenSince":"2026-11-22T20:12:22.440825298Z","Args":{"State":"NeedsLogin"},"DependsOn":["warming-up"]}"#
    );
    assert_eq!(health::control_code("x"), "control-health.x");
    assert_eq!(Severity::default(), Severity::Medium);
}

#[test]
fn codes_are_unique() {
    let codes: std::collections::BTreeSet<_> = Warnable::ALL.iter().map(|w| w.code()).collect();
    assert_eq!(codes.len(), Warnable::ALL.len());
}

#[test]
fn names() {
    assert_eq!(dns::trim_suffix("a.b.ts.net.", "b.ts.net"), "a");
    assert_eq!(dns::trim_suffix("a.B.ts.net", ".b.ts.net."), "a");
    assert_eq!(dns::trim_suffix("ab.ts.net", "b.ts.net"), "ab.ts.net");
    assert_eq!(dns::magic_dns_suffix("a.b.ts.net."), "b.ts.net");
    assert_eq!(dns::sanitize_hostname("Bob's Mac.local"), "bob-s-mac");
    assert!(dns::check_hostname("a-b.c").is_ok());
    for bad in [
        "",
        "-a",
        "a-",
        "a..b",
        "a_b",
        &"a".repeat(64),
        &"a.".repeat(128),
    ] {
        assert!(dns::check_hostname(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_mask_that_contradicts_itself() {
    assert!((WatchMask::RATE_LIMIT | WatchMask::PEER_CHANGES).is_contradictory());
    assert!(!(WatchMask::RATE_LIMIT | WatchMask::INITIAL_STATE).is_contradictory());
}

proptest::proptest! {
    #[test]
    fn prefs_survive_the_state_file(
        hostname in ".*",
        want_running: bool,
        sync: Option<bool>,
        tags in proptest::collection::vec("tag:[a-z]{1,8}", 0..3),
        port: Option<u16>,
        mode in -1..4_i32,
    ) {
        let prefs = Prefs {
            hostname,
            want_running,
            sync,
            advertise_tags: tags,
            relay_server_port: port,
            netfilter_mode: NetfilterMode(mode),
            advertise_routes: vec!["10.0.0.0/8".parse().expect("net"), "::/0".parse().expect("net")],
            ..Prefs::new()
        };
        proptest::prop_assert_eq!(Prefs::from_stored(&prefs.to_stored()).expect("decodes"), prefs);
    }

    #[test]
    fn junk_never_panics(bytes: Vec<u8>) {
        let _ = Prefs::from_stored(&bytes);
        let _ = serde_json::from_slice::<MaskedPrefs>(&bytes);
        let _ = serde_json::from_slice::<Notify>(&bytes);
    }
}
