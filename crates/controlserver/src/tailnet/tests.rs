use host::Wall;
use keys::{DiscoPublic, NodePublic};
use netmap::MapSession;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tailcfg::go::Secret;
use tailcfg::{Hostinfo, NetInfo, RegisterAuth, RegisterRequest, RegisterResponse};

use super::*;

const NOW: GoTime = GoTime::ZERO;

fn at(secs: i64) -> GoTime {
    GoTime::from_unix_secs(1_700_000_000 + secs)
}

struct Fixture {
    tailnet: Tailnet,
    rng: StdRng,
}

fn fixture() -> Fixture {
    let mut rng = StdRng::seed_from_u64(1);
    let tailnet = Tailnet::new("x.net".into(), DerpMap::default(), &mut rng);
    Fixture { tailnet, rng }
}

fn machine(n: u8) -> MachinePublic {
    MachinePublic::from_bytes([n; 32])
}

fn node_key(n: u8) -> NodePublic {
    NodePublic::from_bytes([n; 32])
}

fn request(key: u8, auth: Option<&str>, hostname: &str) -> RegisterRequest {
    let auth = auth.map(|key| {
        Box::new(RegisterAuth {
            auth_key: Secret::new(key.into()),
            ..RegisterAuth::default()
        })
    });
    RegisterRequest {
        version: 113,
        node_key: node_key(key),
        auth,
        hostinfo: Some(Box::new(Hostinfo {
            hostname: hostname.into(),
            ..Hostinfo::default()
        })),
        ..RegisterRequest::default()
    }
}

impl Fixture {
    fn key(&mut self, new: NewAuthKey) -> AuthKeyInfo {
        self.tailnet
            .create_auth_key(new, at(0), &mut self.rng)
            .unwrap()
    }

    fn reusable(&mut self) -> String {
        let new = NewAuthKey {
            reusable: true,
            ..NewAuthKey::default()
        };
        self.key(new).key.unwrap()
    }

    fn register(&mut self, by: u8, request: RegisterRequest, now: GoTime) -> RegisterResponse {
        let done = self
            .tailnet
            .register(machine(by), request, now, &mut self.rng);
        done.response
    }

    fn names(&self) -> Vec<String> {
        self.tailnet
            .nodes()
            .into_iter()
            .map(|node| node.name)
            .collect()
    }
}

#[test]
fn auth_keys_are_good_for_what_they_say() {
    let mut f = fixture();
    let once = f.key(NewAuthKey {
        expiry_secs: Some(60),
        ..NewAuthKey::default()
    });
    let text = once.key.unwrap();
    let error =
        |f: &mut Fixture, text: &str, now| f.register(1, request(9, Some(text), "a"), now).error;
    for bad in [
        "",
        "x",
        "tskey-auth-",
        "tskey-auth-a-b",
        &text[..text.len() - 1],
        &format!("{text}0"),
    ] {
        let got = error(&mut f, bad, at(0));
        assert!(
            got.contains("invalid auth key") || (bad.is_empty() && got.is_empty()),
            "{bad}: {got}"
        );
    }
    assert_eq!(error(&mut f, &text, at(60)), "auth key has expired");
    assert_eq!(error(&mut f, &text, at(59)), "");
    assert_eq!(
        f.register(2, request(8, Some(&text), "b"), at(0)).error,
        "auth key has already been used"
    );
    assert_eq!(error(&mut f, &text, at(600)), "", "who is in needs no key");
    assert_eq!(f.tailnet.auth_keys()[0].uses, 1);
    assert_eq!(f.tailnet.auth_keys()[0].key, None);
    assert_eq!(
        f.tailnet.expire_auth_key("x", at(0)),
        Err(Refused::NoSuchAuthKey)
    );
    f.tailnet.expire_auth_key(&once.id, at(1)).unwrap();
    let bad = NewAuthKey {
        tags: vec!["tag:".into()],
        ..NewAuthKey::default()
    };
    assert!(f.tailnet.create_auth_key(bad, NOW, &mut f.rng).is_err());
    assert!(!format!("{:?}", f.tailnet).contains(text.rsplit('-').next().unwrap()));
}

#[test]
fn nodes_get_names_addresses_and_owners() {
    let mut f = fixture();
    let key = f.reusable();
    for (n, hostname) in [
        (1, "Host"),
        (2, "host.local"),
        (3, "host"),
        (4, ""),
        (5, "é"),
    ] {
        assert_eq!(
            f.register(n, request(n, Some(&key), hostname), at(0)).error,
            ""
        );
    }
    assert_eq!(
        f.names(),
        [
            "host.x.net",
            "host-1.x.net",
            "host-2.x.net",
            "node.x.net",
            "node-1.x.net"
        ]
    );
    let nodes = f.tailnet.nodes();
    assert_eq!(nodes[0].addresses[0].to_string(), "100.64.0.1");
    assert_eq!(
        nodes[0].addresses[1].to_string(),
        "fd7a:115c:a1e0:ab12:4843:cd96:6240:1"
    );
    assert!(nodes.iter().all(|node| node.user == "lab"));
    // A new name is taken only when the host has one.
    f.register(3, request(3, None, "other"), at(0));
    f.register(2, request(2, None, "host"), at(0));
    assert_eq!(f.names()[1..3], ["host-1.x.net", "other.x.net"]);
    let long = "x".repeat(80);
    f.register(6, request(6, Some(&key), &long), at(0));
    f.register(7, request(7, Some(&key), &long), at(0));
    let names = f.names();
    assert!(names[6].ends_with("-1.x.net") && names[6].len() <= 63 + 6);
}

#[test]
fn addresses_skip_what_is_not_ours() {
    let mut f = fixture();
    for host in [
        0,
        254,
        (51 << 16) + (92 << 8),
        (36 << 16) + (100 << 8) + 99,
        (1 << 22) - 2,
    ] {
        f.tailnet.next_host = host;
        for _ in 0..3 {
            let ip = f.tailnet.free_address().unwrap();
            assert!(is_tailscale_ip(ip.into()) && !is_service_ip(ip.into()));
            assert!(!matches!(ip.octets()[3], 0 | 255), "{ip}");
        }
    }
}

#[test]
fn keys_rotate_expire_and_log_out() {
    let mut f = fixture();
    let key = f.reusable();
    f.register(1, request(1, Some(&key), "a"), at(0));
    assert!(
        f.register(2, request(1, Some(&key), "a"), at(0))
            .error
            .contains("another machine")
    );

    let mut rotate = request(2, Some(&key), "a");
    rotate.old_node_key = node_key(1);
    let done = f.tailnet.register(machine(1), rotate, at(1), &mut f.rng);
    assert_eq!(
        (done.response.error.as_str(), done.end_stream),
        ("", Some(1))
    );
    assert_eq!(f.tailnet.nodes().len(), 1);
    assert_eq!(f.tailnet.node_of(&node_key(1), &machine(1)), None);
    assert_eq!(f.tailnet.node_of(&node_key(2), &machine(1)), Some(1));
    assert_eq!(f.tailnet.node_of(&node_key(2), &machine(2)), None);
    // Without its old key, the machine is still known.
    assert_eq!(f.register(1, request(3, Some(&key), "a"), at(1)).error, "");
    assert_eq!(f.tailnet.nodes().len(), 1);
    // Another user's key makes another node.
    let other = f.key(NewAuthKey {
        user: "other".into(),
        ..NewAuthKey::default()
    });
    assert_eq!(
        f.register(1, request(4, other.key.as_deref(), "a"), at(1))
            .error,
        ""
    );
    assert_eq!(f.tailnet.nodes().len(), 2);

    f.tailnet.set_key_expiry(1, at(10)).unwrap();
    let response = f.register(1, request(3, None, "a"), at(10));
    assert!(response.node_key_expired && response.error.is_empty());
    let response = f.register(1, request(3, Some(&key), "a"), at(11));
    assert!(!response.node_key_expired && response.error.is_empty());

    let mut sooner = request(3, None, "a");
    sooner.expiry = at(100);
    assert!(!f.register(1, sooner, at(11)).node_key_expired);
    assert_eq!(f.tailnet.nodes()[0].key_expiry, at(100));
    let mut logout = request(3, None, "a");
    logout.expiry = GoTime::from_unix_secs(123);
    let done = f
        .tailnet
        .register(machine(1), logout.clone(), at(12), &mut f.rng);
    assert_eq!(done.end_stream, Some(1));
    assert!(
        f.register(1, request(3, None, "a"), at(12))
            .node_key_expired
    );
    logout.node_key = node_key(77);
    assert_eq!(f.register(1, logout, at(12)).error, "node not found");
    assert!(
        f.register(1, RegisterRequest::default(), at(12))
            .error
            .contains("missing")
    );
}

#[test]
fn ephemeral_nodes_vanish_with_their_logout() {
    let mut f = fixture();
    let key = f.key(NewAuthKey {
        ephemeral: true,
        ..NewAuthKey::default()
    });
    f.register(1, request(1, key.key.as_deref(), "a"), at(0));
    assert_eq!(f.tailnet.ephemeral_nodes(), [1]);
    let mut logout = request(1, None, "a");
    logout.expiry = at(-1);
    f.register(1, logout, at(0));
    assert!(f.tailnet.nodes().is_empty());
}

#[test]
fn tags_come_from_keys() {
    let mut f = fixture();
    let key = f.key(NewAuthKey {
        reusable: true,
        tags: vec!["tag:a".into(), "tag:b".into()],
        ..NewAuthKey::default()
    });
    let asking = |n: u8, auth: Option<&str>, tag: &str| {
        let mut request = request(n, auth, "h");
        request.hostinfo.as_mut().unwrap().request_tags = vec![tag.into()];
        request
    };
    let text = key.key.as_deref();
    assert!(
        f.register(1, asking(1, text, "tag:c"), at(0))
            .error
            .contains("`tag:c` is invalid or not permitted")
    );
    let response = f.register(1, asking(1, text, "tag:a"), at(0));
    assert_eq!(
        (response.error.as_str(), response.login.login_name.as_str()),
        ("", "tagged-devices")
    );
    assert_eq!(f.tailnet.nodes()[0].tags, ["tag:a", "tag:b"]);
    assert_eq!(f.register(1, asking(1, None, "tag:b"), at(0)).error, "");
    assert!(
        f.register(1, asking(1, None, "tag:c"), at(0))
            .error
            .contains("not permitted")
    );
}

#[test]
fn what_is_saved_comes_back() {
    let mut f = fixture();
    let key = f.reusable();
    f.register(1, request(1, Some(&key), "a"), at(0));
    f.tailnet.set_filter(vec![]);
    f.tailnet.set_online(1, true, at(0)).unwrap();
    let saved = f.tailnet.save().unwrap();
    assert!(
        !String::from_utf8(saved.clone())
            .unwrap()
            .contains(key.rsplit('-').next().unwrap())
    );
    let load = |bytes: &[u8]| {
        let saved = Saved::parse(bytes)?;
        Ok::<_, saved::LoadError>(Tailnet::load(saved, "x.net".into(), DerpMap::default()))
    };
    let mut again = load(&saved).unwrap();
    assert_eq!(again.noise_key, f.tailnet.noise_key);
    assert!(again.filter.is_empty() && !again.is_online(1));
    again.set_online(1, true, at(0)).unwrap();
    assert_eq!(again.nodes(), f.tailnet.nodes());
    assert_eq!(
        again.snapshot().full(1, NOW),
        f.tailnet.snapshot().full(1, NOW)
    );
    assert_eq!(again.auth_keys(), f.tailnet.auth_keys());
    let text = String::from_utf8(saved).unwrap();
    for (from, to) in [
        ("\"version\": 1", "\"version\": 2"),
        ("privkey:", "x"),
        ("{", "["),
    ] {
        assert!(load(text.replacen(from, to, 1).as_bytes()).is_err());
    }
    assert!(load(&text.as_bytes()[..text.len() / 2]).is_err());
}

fn asking(machine_number: u8, key: u8, hostname: &str) -> (MachinePublic, RegisterRequest) {
    (machine(machine_number), request(key, None, hostname))
}

#[test]
fn a_person_lets_a_machine_in() {
    let mut f = fixture();
    let ask = |f: &mut Fixture, by: u8, key: u8| {
        let (machine, request) = asking(by, key, "host");
        f.tailnet.register(machine, request, at(0), &mut f.rng)
    };
    let first = ask(&mut f, 1, 1).login.unwrap();
    assert_eq!(
        ask(&mut f, 1, 1).login.as_ref(),
        Some(&first),
        "it asks again"
    );
    let second = ask(&mut f, 2, 2).login.unwrap();
    assert_ne!(first, second);
    assert!(
        ask(&mut f, 2, 1).login.is_some_and(|id| id != first),
        "another's key"
    );
    assert_eq!(f.tailnet.logins().len(), 3);
    assert!(f.tailnet.nodes().is_empty() && f.tailnet.is_undecided(&first));

    let approval = Approval {
        user: "ann".into(),
        tags: None,
    };
    f.tailnet.approve_login(&first, approval.clone()).unwrap();
    assert_eq!(
        f.tailnet.approve_login(&first, approval.clone()),
        Err(Refused::NoSuchLogin)
    );
    assert_eq!(f.tailnet.refuse_login("x"), Err(Refused::NoSuchLogin));
    let done = ask(&mut f, 1, 1);
    assert_eq!(
        (done.login, done.response.login.login_name.as_str()),
        (None, "ann")
    );
    assert_eq!(f.tailnet.login(&first), Err(Refused::NoSuchLogin));
    f.tailnet.refuse_login(&second).unwrap();
    assert!(ask(&mut f, 2, 2).response.error.contains("refused"));
    assert!(ask(&mut f, 2, 2).login.is_some(), "it may ask anew");

    // The key expires, a new one takes its place, and the node stays the same.
    f.tailnet.set_key_expiry(1, at(-1)).unwrap();
    assert!(ask(&mut f, 1, 1).response.node_key_expired);
    let (by, mut request) = asking(1, 3, "host");
    request.old_node_key = node_key(1);
    let again = f.tailnet.register(by, request.clone(), at(0), &mut f.rng);
    assert_eq!(
        f.tailnet.node_of(&node_key(1), &by),
        Some(1),
        "until then the old key lives"
    );
    f.tailnet
        .approve_login(&again.login.unwrap(), approval)
        .unwrap();
    let done = f.tailnet.register(by, request, at(0), &mut f.rng);
    assert_eq!(done.end_stream, Some(1));
    assert_eq!(
        (
            f.tailnet.nodes().len(),
            f.tailnet.node_of(&node_key(3), &by)
        ),
        (1, Some(1))
    );
}

#[test]
fn logins_end_and_do_not_pile_up() {
    let mut f = fixture();
    let ask = |f: &mut Fixture, n: u16, now| {
        let mut key = [1; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        let request = RegisterRequest {
            node_key: NodePublic::from_bytes(key),
            ..RegisterRequest::default()
        };
        f.tailnet
            .register(machine(1), request, now, &mut f.rng)
            .login
            .unwrap()
    };
    let oldest = ask(&mut f, 0, at(0));
    for n in 1..1200 {
        ask(&mut f, n, at(1));
    }
    assert_eq!(f.tailnet.logins().len(), 1000);
    assert_eq!(f.tailnet.login(&oldest), Err(Refused::NoSuchLogin));
    let newest = ask(&mut f, 2000, at(4000));
    assert_eq!(f.tailnet.logins().len(), 1, "the others are over");
    assert_eq!(ask(&mut f, 2000, at(4001)), newest);
}

#[test]
fn machines_wait_for_approval_where_the_rules_say_so() {
    let mut f = fixture();
    f.tailnet.set_settings(Settings {
        device_approval: true,
        key_lifetime_secs: Some(1000),
        ..Settings::default()
    });
    let key = f.reusable();
    let approved = f.key(NewAuthKey {
        preapproved: true,
        ..NewAuthKey::default()
    });
    let response = f.register(1, request(1, Some(&key), "a"), at(0));
    assert!(!response.machine_authorized && response.error.is_empty());
    let response = f.register(2, request(2, approved.key.as_deref(), "b"), at(0));
    assert!(response.machine_authorized);
    assert_eq!(f.tailnet.nodes()[0].key_expiry, at(1000));

    let before = f.tailnet.snapshot();
    let full = |id| before.full(id, at(0)).unwrap();
    assert!(full(1).peers.is_empty() && full(2).peers.is_empty());
    assert!(!full(1).node.unwrap().machine_authorized);
    f.tailnet.set_approved(1, true).unwrap();
    let now = f.tailnet.snapshot();
    let delta = now.delta(&before, 1).unwrap();
    assert!(delta.node.unwrap().machine_authorized);
    assert_eq!(delta.peers_changed[0].id, 2);
    assert_eq!(now.delta(&before, 2).unwrap().peers_changed[0].id, 1);
    // Back again.
    assert_eq!(before.delta(&now, 1).unwrap().peers_removed, [2]);
    assert_eq!(before.delta(&now, 2).unwrap().peers_removed, [1]);
    let mut sooner = request(1, Some(&key), "a");
    sooner.expiry = at(500);
    f.register(1, sooner, at(1));
    assert_eq!(f.tailnet.nodes()[0].key_expiry, at(500));
}

#[test]
fn administrators_name_and_route() {
    let mut f = fixture();
    let key = f.reusable();
    f.register(1, request(1, Some(&key), "a"), at(0));
    f.register(2, request(2, Some(&key), "b"), at(0));
    f.tailnet.set_name(1, "prod").unwrap();
    f.register(1, request(1, Some(&key), "changed"), at(0));
    assert_eq!(f.names()[0], "prod.x.net");
    for bad in ["b", "B", "x.y", "-", "a b"] {
        assert!(
            matches!(f.tailnet.set_name(1, bad), Err(Refused::Invalid(_))),
            "{bad}"
        );
    }
    f.tailnet.set_name(1, "").unwrap();
    assert_eq!(f.names()[0], "changed.x.net");
    assert_eq!(f.tailnet.set_name(9, "x"), Err(Refused::NoSuchNode));

    let net = |text: &str| text.parse::<ipnet::IpNet>().unwrap();
    f.tailnet
        .set_routes(1, vec![net("10.0.0.0/8"), net("10.1.0.0/16")])
        .unwrap();
    assert!(f.tailnet.set_routes(1, vec![net("10.0.0.1/8")]).is_err());
    let update = MapRequest {
        hostinfo: Some(Box::new(Hostinfo {
            routable_ips: vec![net("10.1.0.0/16"), net("0.0.0.0/0")],
            ..Hostinfo::default()
        })),
        ..MapRequest::default()
    };
    assert_eq!(f.tailnet.update(1, update.clone()), Ok(true));
    assert_eq!(f.tailnet.update(1, update), Ok(false), "no news");
    let seen = f.tailnet.snapshot().full(2, at(0)).unwrap().peers.remove(0);
    assert_eq!(seen.allowed_ips.unwrap()[2..], [net("10.1.0.0/16")]);
    assert_eq!(seen.primary_routes, [net("10.1.0.0/16")]);
}

#[test]
fn presence_is_told_in_either_form() {
    let mut f = fixture();
    let key = f.reusable();
    f.register(1, request(1, Some(&key), "a"), at(0));
    f.register(2, request(2, Some(&key), "b"), at(0));
    for presence in [Presence::Patches, Presence::Maps] {
        f.tailnet.set_settings(Settings {
            presence,
            ..Settings::default()
        });
        f.tailnet.set_online(2, true, at(1)).unwrap();
        let before = f.tailnet.snapshot();
        f.tailnet.set_online(2, false, at(2)).unwrap();
        let delta = f.tailnet.snapshot().delta(&before, 1).unwrap();
        match presence {
            Presence::Patches => assert_eq!(delta.peers_changed_patch[0].online, Some(false)),
            Presence::Maps => {
                assert_eq!(delta.online_change, [(2, false)].into());
                assert_eq!(delta.peer_seen_change, [(2, true)].into());
                assert!(delta.peers_changed_patch.is_empty());
            }
        }
    }
}

#[test]
fn nodes_on_paper_are_like_others() {
    let mut f = fixture();
    let ids = f.tailnet.add_paper_nodes(300, at(0), &mut f.rng).unwrap();
    assert_eq!(ids.len(), 300);
    let nodes = f.tailnet.nodes();
    assert!(
        nodes
            .iter()
            .all(|node| node.online && node.endpoints.len() == 2)
    );
    let distinct: std::collections::BTreeSet<_> = nodes.iter().map(|node| &node.name).collect();
    assert_eq!(distinct.len(), 300);
    let (before, one) = (f.tailnet.snapshot(), ids[150]);
    f.tailnet.set_online(one, false, at(1)).unwrap();
    let delta = f.tailnet.snapshot().delta(&before, ids[0]).unwrap();
    assert_eq!(delta.peers_changed_patch.len(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Register(u8, String),
    Rotate(u8, u8),
    Update(u8, u8, Option<u16>, i32),
    Online(u8, bool),
    Approve(u8, bool),
    Tag(u8),
    Attribute(u8),
    Presence(Presence),
    Expire(u8),
    Remove(u8),
    Filter(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let n = || 1u8..8;
    prop_oneof![
        (n(), "[ab]{1,2}").prop_map(|(a, b)| Step::Register(a, b)),
        (n(), 10u8..20).prop_map(|(a, b)| Step::Rotate(a, b)),
        (n(), 0u8..3, prop::option::of(1u16..4), 0i32..3)
            .prop_map(|(a, b, c, d)| Step::Update(a, b, c, d)),
        (n(), any::<bool>()).prop_map(|(a, b)| Step::Online(a, b)),
        (n(), any::<bool>()).prop_map(|(a, b)| Step::Approve(a, b)),
        n().prop_map(Step::Tag),
        n().prop_map(Step::Attribute),
        prop_oneof![Just(Presence::Patches), Just(Presence::Maps)].prop_map(Step::Presence),
        n().prop_map(Step::Expire),
        n().prop_map(Step::Remove),
        any::<bool>().prop_map(Step::Filter),
    ]
}

fn perform(f: &mut Fixture, key: &str, step: Step, now: GoTime) {
    match step {
        Step::Register(n, hostname) => {
            f.register(n, request(n, Some(key), &hostname), now);
        }
        Step::Rotate(n, to) => {
            let mut request = request(to, Some(key), "r");
            request.old_node_key = node_key(n);
            f.register(n, request, now);
        }
        Step::Update(n, disco, port, home_derp) => {
            let net_info = NetInfo {
                preferred_derp: home_derp,
                ..NetInfo::default()
            };
            let request = MapRequest {
                version: 113,
                disco_key: DiscoPublic::from_bytes([disco; 32]),
                endpoints: port
                    .map(|port| ([10, 0, 0, 1], port).into())
                    .into_iter()
                    .collect(),
                hostinfo: Some(Box::new(Hostinfo {
                    hostname: format!("u{disco}"),
                    net_info: Some(Box::new(net_info)),
                    ..Hostinfo::default()
                })),
                ..MapRequest::default()
            };
            let _ = f.tailnet.update(n.into(), request);
        }
        Step::Online(n, online) => {
            let _ = f.tailnet.set_online(n.into(), online, now);
        }
        Step::Approve(n, approved) => {
            let _ = f.tailnet.set_approved(n.into(), approved);
        }
        Step::Tag(n) => {
            let _ = f.tailnet.set_tags(n.into(), vec!["tag:a".into()]);
        }
        Step::Attribute(n) => {
            let name = format!("attribute-{}", now.unix_secs());
            let _ = f.tailnet.set_attributes(n.into(), [(name, None)].into());
        }
        Step::Presence(presence) => f.tailnet.set_settings(Settings {
            presence,
            ..Settings::default()
        }),
        Step::Expire(n) => {
            let _ = f.tailnet.set_key_expiry(n.into(), now);
        }
        Step::Remove(n) => {
            let _ = f.tailnet.remove_node(n.into());
        }
        Step::Filter(open) => f.tailnet.set_filter(match open {
            true => vec![FilterRule::allow_all()],
            false => vec![],
        }),
    }
}

/// As a client gets it: through JSON.
fn wire(response: &tailcfg::MapResponse) -> tailcfg::MapResponse {
    serde_json::from_slice(&tailcfg::go::to_vec(response).unwrap()).unwrap()
}

proptest! {
    /// A client that follows the changes knows what one knows that has just come.
    #[test]
    fn changes_lead_to_the_same_map(steps in prop::collection::vec((step(), any::<bool>()), 0..60)) {
        let mut f = fixture();
        let key = f.reusable();
        f.register(200, request(200, Some(&key), "viewer"), at(0));
        let id = f.tailnet.node_of(&node_key(200), &machine(200)).unwrap();
        let wall = Wall::from_unix_secs(1_700_000_000);
        let mut known = f.tailnet.snapshot();
        let mut session = MapSession::new();
        session.apply(wire(&known.full(id, at(0)).unwrap()), wall).unwrap();
        for (n, (step, look)) in steps.into_iter().enumerate() {
            // The viewer itself stays.
            if matches!(step, Step::Remove(1)) {
                continue;
            }
            perform(&mut f, &key, step, at(1000 + n as i64));
            if look {
                let now = f.tailnet.snapshot();
                if let Some(delta) = now.delta(&known, id) {
                    session.apply(wire(&delta), wall).unwrap();
                }
                known = now;
            }
        }
        let now = f.tailnet.snapshot();
        if let Some(delta) = now.delta(&known, id) {
            session.apply(wire(&delta), wall).unwrap();
        }
        prop_assert!(now.delta(&now.clone(), id).is_none());
        let mut fresh = MapSession::new();
        fresh.apply(wire(&now.full(id, at(0)).unwrap()), wall).unwrap();
        let (followed, fresh) = (session.map().unwrap(), fresh.map().unwrap());
        prop_assert_eq!(followed.peers.len(), fresh.peers.len());
        for (a, b) in followed.peers.iter().zip(fresh.peers.iter()) {
            // A patch cannot take a time away, and no client looks at it while the peer is online; where presence is told
            // by maps, the time is the client's.
            let mut a = netmap::Peer::clone(a);
            if a.online == Some(true) || (a.last_seen.is_some() && b.last_seen.is_some()) {
                a.last_seen = b.last_seen;
            }
            prop_assert_eq!(&a, &**b);
        }
        prop_assert_eq!(&followed.self_node, &fresh.self_node);
        prop_assert_eq!(&followed.filter_rules, &fresh.filter_rules);
    }
}
