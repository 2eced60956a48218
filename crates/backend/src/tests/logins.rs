//! Logins that are disturbed: by a switch, by a second client, by a full disk.

use super::*;

fn page(n: u8) -> ControlEvent {
    ControlEvent::AuthUrl(format!("http://control.example/{n}"))
}

fn ask(pid: i32) -> Command {
    Command::LoginInteractive(Recipient::Process(pid))
}

#[test]
fn a_page_goes_to_who_asked_for_it() {
    let mut world = World::new();
    world.send(Event::Boot);
    world.up();
    assert_eq!(world.control(page(1)), ["Browse http://control.example/1"]);
    assert_eq!(
        world.command(ask(7)),
        ["Browse http://control.example/1 to 7"]
    );
    world.pass(Duration::from_secs(7 * 24 * 3600));
    assert_eq!(world.command(ask(8)), ["Login"]);
    assert_eq!(
        world.control(page(2)),
        ["Browse http://control.example/2 to 8"]
    );
    assert_eq!(
        world.control(page(3)),
        ["Browse http://control.example/3"],
        "one that nobody asked for"
    );
}

#[test]
fn the_clock_that_people_set_does_not_age_a_page() {
    for year in [-1, 1] {
        let mut world = World::new();
        world.send(Event::Boot);
        world.up();
        world.control(page(1));
        let secs = world.wall.as_unix_secs() + year * 365 * 24 * 3600;
        world.wall = Wall::from_unix_secs(secs);
        let again = world.command(ask(7));
        assert_eq!(again, ["Browse http://control.example/1 to 7"]);
    }
}

#[test]
fn a_switch_in_the_middle_of_a_login_leaves_nothing_of_it() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    let first = world.brain.snapshot().profile.id.clone();
    world.command(Command::NewProfile);
    world.up();
    world.control(page(1));
    let store = world.store.clone();
    let old = world.client;
    let switched = world.command(Command::SwitchProfile(first));
    assert_eq!(
        switched,
        ["Shutdown", "State NoState", "Prefs on", "New", "Login"]
    );
    let late = Event::Control {
        client: old,
        event: ControlEvent::Registered(Registered::default()),
    };
    assert_eq!(world.send(late), Vec::<String>::new());
    let snapshot = world.brain.snapshot();
    assert_eq!(
        (snapshot.auth_url.as_str(), snapshot.profiles.len()),
        ("", 1)
    );
    let changed: Vec<_> = world
        .store
        .iter()
        .filter(|(key, value)| store.get(*key) != Some(*value))
        .collect();
    assert_eq!(changed.len(), 0, "nothing of the other login is written");
}

#[test]
fn what_a_full_disk_refused_is_written_later() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    world.is_disk_full = true;
    let edited = world.edit(|edit| {
        edit.shields_up_set = true;
        edit.prefs.shields_up = true;
    });
    assert_eq!(edited, ["Update", "Prefs on"], "what was asked for is done");
    // The outcome of the write is the next event's news.
    world.live(1);
    let told = |world: &World| {
        let texts = world.brain.snapshot().health_texts.clone();
        texts.iter().any(|text| text.contains("no space left"))
    };
    assert!(told(&world));
    let saved = |world: &World| {
        let restarted = world.restarted();
        restarted.brain.snapshot().prefs.shields_up
    };
    for _ in 0..5 {
        assert!(!saved(&world));
        assert!(world.brain.next_timeout().is_some());
        world.pass(Duration::from_secs(61));
        world.send(Event::Timer);
        world.live(1);
        assert!(told(&world));
    }
    world.is_disk_full = false;
    world.pass(Duration::from_secs(61));
    world.send(Event::Timer);
    world.live(1);
    assert!(saved(&world));
    assert!(!told(&world));
    assert!(world.brain.unsaved_writes().is_empty());
}

#[test]
fn a_login_during_a_full_disk_is_complete_once_there_is_room() {
    let mut world = World::new();
    world.is_disk_full = true;
    world.bring_up("node1", 1);
    assert!(world.store.is_empty());
    world.is_disk_full = false;
    let last = world.brain.unsaved_writes();
    let keys: Vec<_> = last
        .iter()
        .map(|write| match write {
            Effect::SaveState { key, .. } => key.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(keys[0].starts_with("profile-"), "{keys:?}");
    assert_eq!(keys[1..], ["_profiles", "_machinekey", "_current-profile"]);
    world.pass(Duration::from_secs(61));
    world.send(Event::Timer);
    let key = world.brain.snapshot().node_key;
    assert_eq!(world.restarted().brain.node_key().map(|k| k.public()), key);
}

#[test]
fn an_earlier_expiry_is_the_servers_to_grant() {
    let mut world = World::new();
    world.send(Event::Boot);
    let wanted = Command::SetExpirySooner(GoTime::from_unix_secs(1));
    assert_eq!(world.command(wanted.clone()), ["refused: not running"]);
    let mut world = World::new();
    world.bring_up("node1", 1);
    assert_eq!(world.command(wanted.clone()), ["SetExpiry"]);
    assert_eq!(
        world.command(wanted.clone()),
        [
            "SetExpiry",
            "refused: another expiry was asked for meanwhile"
        ]
    );
    let refused = world.control(ControlEvent::ExpirySet(Err("no".into())));
    assert_eq!(refused, ["refused: no"]);
    world.command(wanted);
    let done = world.control(ControlEvent::ExpirySet(Ok(())));
    assert_eq!(done, Vec::<String>::new());
}

#[test]
fn the_last_exit_node_is_remembered() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    let refused = world.command(Command::UseExitNode(true));
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].starts_with("refused: no exit node IP"),
        "{refused:?}"
    );
    world.edit(|edit| {
        edit.exit_node_id_set = true;
        edit.prefs.exit_node_id = "n7".into();
    });
    let id = |world: &World| world.brain.snapshot().prefs.exit_node_id.clone();
    for _ in 0..2 {
        world.command(Command::UseExitNode(false));
        assert_eq!(id(&world), "");
        world.command(Command::UseExitNode(true));
        assert_eq!(id(&world), "n7");
    }
    world.edit(|edit| edit.exit_node_id_set = true);
    let refused = world.command(Command::UseExitNode(true));
    assert_eq!(refused.len(), 1, "turned off by hand it is forgotten");
}

#[test]
fn a_new_login_needs_a_store() {
    let mut world = World::new();
    world.brain = Backend::new(
        Stored {
            trouble: Some("disk on fire".into()),
            ..Stored::default()
        },
        hostinfo(),
    );
    world.send(Event::Boot);
    assert_eq!(
        world.command(Command::NewProfile),
        ["refused: cannot log in when state store is unhealthy"]
    );
}

#[test]
fn an_approval_may_come_and_go() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    for _ in 0..2 {
        let taken = world.map("node1", 1, |own, _| own.machine_authorized = false);
        let trace = world.control(ControlEvent::NetMap(taken));
        assert_eq!(trace, ["State NeedsMachineAuth"]);
        // The engine has nothing new to tell: its relay link never went down.
        assert_eq!(
            world.netmap("node1", 1),
            ["State Starting", "State Running"]
        );
    }
}
