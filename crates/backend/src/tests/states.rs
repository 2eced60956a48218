//! The rows of the originals' `TestStateMachine`. A client is made only when it is first needed, and a message with only
//! the netmap is not counted; otherwise calls and messages are theirs, in their order.

use super::*;

#[test]
fn a_fresh_node_waits_for_a_login() {
    let mut world = World::new();
    assert_eq!(world.send(Event::Boot), ["Prefs out", "State NeedsLogin"]);
    let again = world.command(Command::Start(Box::default()));
    assert_eq!(again, ["Prefs out", "State NeedsLogin"]);
    assert!(
        world.store.is_empty(),
        "nothing is written before anything is wanted"
    );
    assert_eq!(
        world.brain.snapshot().health_texts[..],
        ["Tailscale is stopped."]
    );
}

#[test]
fn logging_in_with_a_page() {
    let mut world = World::new();
    world.send(Event::Boot);
    let edited = world.edit(|edit| {
        edit.control_url_set = true;
        edit.prefs.control_url = "https://control.example".into();
    });
    assert_eq!(edited, ["Prefs out"]);
    assert_eq!(
        world.command(Command::Start(Box::default())),
        ["Prefs out", "State NeedsLogin"]
    );

    assert_eq!(
        world.command(Command::LoginInteractive(Recipient::Everybody)),
        ["New", "Login"]
    );
    assert!(
        world.store.contains_key("_machinekey"),
        "made when first needed"
    );
    let url = |n: u8| ControlEvent::AuthUrl(format!("https://control.example/{n}"));
    assert_eq!(world.control(url(1)), ["Browse https://control.example/1"]);
    assert_eq!(
        world.command(Command::LoginInteractive(Recipient::Everybody)),
        ["Browse https://control.example/1"]
    );
    // The client asks again and again, and gets the same page.
    assert_eq!(world.control(url(1)), Vec::<String>::new());

    world.pass(Duration::from_secs(7 * 24 * 3600));
    assert_eq!(
        world.command(Command::LoginInteractive(Recipient::Everybody)),
        ["Login"]
    );
    assert_eq!(world.control(url(2)), ["Browse https://control.example/2"]);
    assert_eq!(world.brain.snapshot().auth_url, "https://control.example/2");

    let finished = world.registered(1, "user1");
    assert_eq!(finished, ["LoginFinished", "Prefs on", "StartMap"]);
    let change = world.map("node1", 1, |own, _| own.machine_authorized = false);
    assert_eq!(
        world.control(ControlEvent::NetMap(change)),
        ["Prefs on", "State NeedsMachineAuth"]
    );
    assert_eq!(world.netmap("node1", 1), ["State Starting"]);
    assert_eq!(world.live(1), ["State Running"]);
    assert_eq!(world.brain.snapshot().auth_url, "");
}

#[test]
fn a_page_is_no_news_to_a_server_that_may_not_send_it() {
    let mut world = World::new();
    world.send(Event::Boot);
    world.command(Command::LoginInteractive(Recipient::Everybody));
    for url in [
        "http://evil.example/",
        "https://evil.example/",
        "https://tailscale.com.evil.example/",
        "file:///etc",
        "javascript:x",
        "",
    ] {
        let trace = world.control(ControlEvent::AuthUrl(url.into()));
        assert_eq!(trace, Vec::<String>::new(), "{url}");
    }
    let fine = world.control(ControlEvent::AuthUrl(
        "https://login.tailscale.com/a/1".into(),
    ));
    assert_eq!(
        fine,
        ["Prefs out", "Browse https://login.tailscale.com/a/1"]
    );
}

#[test]
fn off_and_on() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    assert!(world.key.is_some());
    assert_eq!(
        world.want_running(false),
        ["pause", "State Stopped", "Prefs"]
    );
    assert_eq!(world.key, None);
    assert_eq!(world.router, Some(host::RouterConfig::default()));
    assert_eq!(world.network.clone().unwrap(), Arc::default());
    assert!(world.brain.snapshot().netmap.is_some(), "it is kept");
    let on = world.want_running(true);
    assert_eq!(on, ["Login", "unpause", "State Starting", "Prefs on"]);
    let login = world.login.clone().unwrap();
    assert_eq!(
        Some(login.node_key.public()),
        world.brain.snapshot().node_key,
        "the same key"
    );
    assert_eq!(world.live(1), ["State Running"]);
    assert_eq!(world.registered(1, "user1"), ["StartMap"]);
}

#[test]
fn logging_out() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    let asked = world.command(Command::Logout);
    assert_eq!(asked, ["pause", "State Stopped", "Prefs out", "Logout"]);
    let done = world.control(ControlEvent::LoggedOut(Ok(())));
    assert_eq!(
        done,
        ["Shutdown", "State NoState", "Prefs out", "State NeedsLogin"]
    );
    assert_eq!(world.command(Command::Logout), Vec::<String>::new());
    assert_eq!(world.brain.snapshot().node_key, None);
    let left: Vec<_> = world.store.keys().map(String::as_str).collect();
    assert_eq!(left, ["_current-profile", "_machinekey", "_profiles"]);
    assert_eq!(world.store["_profiles"].as_slice(), b"{}");
}

#[test]
fn a_logout_that_fails_keeps_the_login() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    world.command(Command::Logout);
    let failed = world.control(ControlEvent::LoggedOut(Err("no network".into())));
    assert_eq!(failed, ["refused: no network"]);
    assert!(world.brain.snapshot().node_key.is_some());
    world.command(Command::Logout);
    let restarted = world.command(Command::Start(Box::default()));
    assert!(
        restarted.contains(&"refused: the login was started anew meanwhile".to_owned()),
        "{restarted:?}"
    );
}

#[test]
fn a_restart_while_on() {
    let mut first = World::new();
    first.bring_up("node1", 1);
    let key = first.brain.snapshot().node_key;
    let mut world = first.restarted();
    assert_eq!(world.send(Event::Boot), ["Prefs on", "New", "Login"]);
    let login = world.login.clone().unwrap();
    assert_eq!(Some(login.node_key.public()), key);
    assert!(login.auth_key.is_none());
    assert_eq!(
        world.registered(1, "user1"),
        ["StartMap"],
        "nobody is told of a login that nobody made"
    );
    assert_eq!(world.netmap("node1", 1), ["State Starting"]);
    assert_eq!(world.live(1), ["State Running"]);
}

#[test]
fn a_restart_while_off() {
    let mut first = World::new();
    first.bring_up("node1", 1);
    first.want_running(false);
    let mut world = first.restarted();
    assert_eq!(
        world.send(Event::Boot),
        ["Prefs", "New", "Login", "State Stopped"]
    );
    assert_eq!(world.registered(1, "user1"), ["StartMap"]);
    assert_eq!(
        world.netmap("node1", 1),
        ["pause"],
        "the map is fetched once, then it is quiet"
    );
}

#[test]
fn a_key_that_runs_out() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    let wall = world.wall;
    let expired = world.map("node1", 1, |own, _| own.key_expiry = at(wall, -60));
    assert_eq!(
        world.control(ControlEvent::NetMap(expired)),
        ["State NeedsLogin"]
    );
    assert_eq!(world.key, None);
    let extended = world.map("node1", 1, |own, _| own.key_expiry = at(wall, 3600));
    assert_eq!(
        world.control(ControlEvent::NetMap(extended)),
        ["State Starting"]
    );
    assert_eq!(world.live(1), ["State Running"]);
    assert!(world.key.is_some());

    // It runs out by the clock alone as well.
    assert!(world.brain.next_timeout().is_some());
    world.pass(Duration::from_secs(3700));
    assert_eq!(world.send(Event::Timer), ["State NeedsLogin"]);
}

#[test]
fn a_new_key_after_the_old_one_ran_out() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    let old = world.brain.snapshot().node_key.unwrap();
    let wall = world.wall;
    let expired = world.map("node1", 1, |own, _| own.key_expiry = at(wall, -60));
    world.control(ControlEvent::NetMap(expired));
    world.command(Command::LoginInteractive(Recipient::Everybody));
    let login = world.login.clone().unwrap();
    assert_eq!(login.old_node_key, old);
    assert_ne!(login.node_key.public(), old);
    world.control(ControlEvent::AuthUrl("http://control.example/1".into()));
    assert_eq!(
        world.registered(1, "user1"),
        ["LoginFinished", "Prefs on", "StartMap"]
    );
    assert_eq!(
        world.brain.snapshot().node_key,
        Some(login.node_key.public())
    );
    assert_eq!(world.key, None, "the tailnet still knows the old key only");
    let mut restarted = world.restarted();
    assert_eq!(world.netmap("node1", 1), ["State Starting"]);
    assert_eq!(world.key, Some(login.node_key.public()));
    restarted.send(Event::Boot);
    assert_eq!(
        restarted.login.map(|login| login.node_key.public()),
        world.key,
        "the new key is not mistaken for the one that has run out"
    );
    assert!(
        world.restarted().brain.node_key() == Some(login.node_key),
        "it was saved at once"
    );
}

#[test]
fn the_server_refuses_the_key_of_a_restart() {
    let mut first = World::new();
    first.bring_up("node1", 1);
    let mut world = first.restarted();
    world.send(Event::Boot);
    assert_eq!(world.control(ControlEvent::KeyExpired), ["Login"]);
    assert_ne!(
        Some(world.login.clone().unwrap().node_key.public()),
        world.brain.snapshot().node_key
    );
    let twice = world.control(ControlEvent::KeyExpired);
    assert_eq!(twice, ["Error control refuses a fresh node key as expired"]);
}

#[test]
fn a_failed_login_is_told() {
    let mut world = World::new();
    world.send(Event::Boot);
    assert_eq!(world.up(), ["Prefs on", "State NeedsLogin", "New", "Login"]);
    assert_eq!(
        world
            .login
            .as_ref()
            .unwrap()
            .auth_key
            .as_ref()
            .unwrap()
            .expose(),
        "tskey-secret"
    );
    let refusal = || ControlEvent::RegisterFailed {
        error: "invalid key: API key does not exist".into(),
        for_user: true,
    };
    let told = ["Error invalid key: API key does not exist"];
    assert_eq!(world.control(refusal()), told);
    let again: [&str; 0] = [];
    assert_eq!(world.control(refusal()), again, "once for each attempt");
    let texts = world.brain.snapshot().health_texts.clone();
    assert!(
        texts.contains(
            &"You are logged out. The last login error was: invalid key: API key does not exist"
                .to_owned()
        ),
        "{texts:?}"
    );
    world.command(Command::LoginInteractive(Recipient::Everybody));
    assert_eq!(world.control(refusal()), told);
}

#[test]
fn another_user_logs_in() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    world.command(Command::NewProfile);
    assert_eq!(world.brain.snapshot().state, State::NeedsLogin);
    assert_eq!(
        world.command(Command::LoginInteractive(Recipient::Everybody)),
        ["New", "Login"]
    );
    world.control(ControlEvent::AuthUrl(
        "https://login.tailscale.com/1".into(),
    ));
    assert_eq!(
        world.registered(2, "user2"),
        ["LoginFinished", "Prefs on", "StartMap"]
    );
    assert_eq!(world.netmap("node2", 2), ["Prefs on", "State Starting"]);
    let names: Vec<_> = world
        .brain
        .snapshot()
        .profiles
        .iter()
        .map(|p| p.name.clone())
        .collect();
    assert_eq!(names, ["user1", "user2"]);
}

#[test]
fn news_of_an_old_client_is_no_news() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    let old = world.client;
    world.command(Command::Start(Box::default()));
    assert_ne!(world.client, old);
    let event = ControlEvent::AuthUrl("http://control.example/1".into());
    assert_eq!(
        world.send(Event::Control { client: old, event }),
        Vec::<String>::new()
    );
}

#[test]
fn a_start_ends_the_old_client_first() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    let trace = world.command(Command::Start(Box::default()));
    assert_eq!(
        trace,
        [
            "Shutdown",
            "Prefs on",
            "New",
            "Login",
            "State Starting",
            "State Running"
        ],
        "the relay link still lives"
    );
}

#[test]
fn no_network_pauses_and_sync_off_pauses() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    assert_eq!(world.send(link(false)), ["pause"]);
    assert_eq!(world.send(link(true)), ["unpause"]);
    let edited = world.edit(|edit| {
        edit.sync_set = true;
        edit.prefs.sync = Some(false);
    });
    assert_eq!(edited, ["pause", "Prefs on"]);
}

#[test]
fn a_control_server_on_this_machine_needs_no_network() {
    for (url, pauses) in [
        ("http://127.0.0.1:8080", false),
        ("https://[::1]/x", false),
        ("http://localhost", false),
        ("https://127.0.0.1.example.com", true),
    ] {
        let mut world = World::new();
        world.bring_up("node1", 1);
        world.edit(|edit| {
            edit.control_url_set = true;
            edit.prefs.control_url = url.into();
        });
        let trace = world.send(link(false));
        assert_eq!(trace == ["pause"], pauses, "{url}: {trace:?}");
    }
}

#[test]
fn a_store_that_cannot_be_trusted() {
    let mut world = World::new();
    world.brain = Backend::new(
        Stored {
            trouble: Some("disk on fire".into()),
            ..Stored::default()
        },
        hostinfo(),
    );
    assert_eq!(world.send(Event::Boot), ["Prefs out"]);
    assert_eq!(world.brain.snapshot().state, State::NoState);
    let refused = world.command(Command::LoginInteractive(Recipient::Everybody));
    assert_eq!(
        refused,
        ["refused: cannot log in when state store is unhealthy"]
    );
    assert_eq!(
        world.command(Command::Start(Box::default())),
        ["refused: cannot start backend when state store is unhealthy"]
    );
    assert!(world.store.is_empty());
    assert!(
        world
            .brain
            .snapshot()
            .health_texts
            .iter()
            .any(|text| text.contains("disk on fire"))
    );
}

#[test]
fn hostinfo_changes_are_sent_once() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    let edited = world.edit(|edit| {
        edit.hostname_set = true;
        edit.prefs.hostname = "other".into();
    });
    assert_eq!(edited, ["Update", "Prefs on"]);
    assert_eq!(world.brain.snapshot().hostinfo.hostname, "other");
    let port = Event::PeerApi {
        port_v4: 1,
        port_v6: 0,
    };
    assert_eq!(world.send(port.clone()), ["Update"]);
    assert_eq!(world.send(port), Vec::<String>::new());
}

#[test]
fn the_firewall_lets_the_engines_ports_in() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    let ports = |world: &World| {
        let firewall = &world.router.as_ref().unwrap().firewall;
        [firewall.port_v4, firewall.port_v6]
    };
    assert_eq!(ports(&world), [0, 0]);
    let bound = Event::Engine(EngineEvent::Ports([41641, 41642]));
    world.send(bound.clone());
    assert_eq!(ports(&world), [41641, 41642]);
    assert_eq!(world.send(bound), Vec::<String>::new());
}

#[test]
fn edits_that_make_no_sense() {
    let mut world = World::new();
    world.send(Event::Boot);
    let refused = world.edit(|edit| {
        edit.advertise_routes_set = true;
        edit.prefs.advertise_routes = vec!["10.0.0.1/8".parse().unwrap()];
    });
    assert_eq!(
        refused,
        ["refused: route 10.0.0.1/8 has non-address bits set; expected 10.0.0.0/8"]
    );
    let refused = world.edit(|edit| edit.internal_exit_node_prior_set = true);
    assert_eq!(refused, ["refused: can't set Internal fields"]);
}

proptest::proptest! {
    /// Whatever happens in whatever order: no panic, and what is shown holds together.
    #[test]
    fn nothing_confuses_it(steps in proptest::collection::vec(0..16_u8, 0..60)) {
        let mut world = World::new();
        for step in steps {
            let minute = Duration::from_secs(61);
            match step {
                0 => drop(world.send(Event::Boot)),
                1 => drop(world.up()),
                2 => drop(world.want_running(true)),
                3 => drop(world.want_running(false)),
                4 => drop(world.command(Command::Logout)),
                5 => drop(world.control(ControlEvent::LoggedOut(Ok(())))),
                6 => drop(world.registered(1, "user1")),
                7 => drop(world.netmap("node1", 1)),
                8 => drop(world.live(1)),
                9 => drop(world.live(0)),
                10 => drop(world.command(Command::NewProfile)),
                11 => drop(world.control(ControlEvent::KeyExpired)),
                12 => drop(world.control(ControlEvent::MapDown { error: None })),
                13 => drop(world.command(Command::LoginInteractive(Recipient::Everybody))),
                14 => drop(world.control(ControlEvent::NotRegistered)),
                _ => {
                    world.pass(minute);
                    world.send(Event::Timer);
                }
            }
            let snapshot = world.brain.snapshot();
            let is_on = matches!(snapshot.state, State::Starting | State::Running);
            proptest::prop_assert!(world.key.is_none() || is_on || snapshot.state == State::NeedsMachineAuth);
            proptest::prop_assert!(snapshot.state != State::Running || snapshot.netmap.is_some());
        }
    }
}
