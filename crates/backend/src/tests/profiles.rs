//! The vectors of the originals' `TestProfileDupe`, and what is written when.

use ipn::{LoginProfile, NetworkProfile, Persist};

use super::*;
use crate::profiles::Profiles;

enum Step {
    Login(i64, i64),
    Reauth(i64, i64),
}
use Step::{Login, Reauth};

fn persist(user: i64, node: i64) -> Option<Arc<Persist>> {
    Some(Arc::new(Persist {
        node_id: format!("node{node}"),
        user_profile: UserProfile {
            id: user,
            login_name: format!("user{user}@example.com"),
            ..UserProfile::default()
        },
        ..Persist::default()
    }))
}

fn after(steps: &[Step]) -> Vec<(i64, String)> {
    let mut rng = StdRng::seed_from_u64(1);
    let (mut profiles, trouble) = Profiles::load(BTreeMap::new(), false);
    assert_eq!(trouble, None);
    for (at, step) in steps.iter().enumerate() {
        let who = match step {
            Login(user, node) => {
                profiles.switch_to_new();
                persist(*user, *node)
            }
            Reauth(user, node) => persist(*user, *node),
        };
        let prefs = Prefs {
            persist: who,
            ..Prefs::clone(profiles.prefs())
        };
        let wall = Wall::from_unix_secs(i64::try_from(at).unwrap() + 1);
        profiles.set_prefs(prefs, NetworkProfile::default(), wall, &mut rng);
    }
    let known = profiles.list().into_iter();
    known
        .map(|profile| (profile.user_profile.id, profile.node_id))
        .collect()
}

#[test]
fn who_is_known_lands_in_their_own_login() {
    let n = |user: i64, node: i64| (user, format!("node{node}"));
    for (steps, known) in [
        (&[Login(1, 1), Reauth(3, 3)][..], &[n(3, 3)][..]),
        (&[Login(1, 1), Reauth(1, 1)], &[n(1, 1)]),
        (
            &[Login(1, 1), Login(2, 2), Reauth(1, 1)],
            &[n(1, 1), n(2, 2)],
        ),
        (
            &[Login(1, 1), Login(3, 3), Reauth(2, 1)],
            &[n(2, 1), n(3, 3)],
        ),
        (
            &[Login(1, 1), Login(3, 3), Reauth(1, 2)],
            &[n(1, 2), n(3, 3)],
        ),
        (
            &[Login(1, 1), Login(3, 3), Login(2, 1)],
            &[n(2, 1), n(3, 3)],
        ),
        (
            &[Login(1, 1), Login(3, 3), Login(1, 2)],
            &[n(1, 2), n(3, 3)],
        ),
        (&[Login(1, 1), Login(2, 2)], &[n(1, 1), n(2, 2)]),
        (&[Login(1, 1), Login(2, 2), Login(1, 2)], &[n(1, 2)]),
    ] {
        assert_eq!(after(steps), known);
    }
}

#[test]
fn the_store_looks_as_the_originals_leave_it() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    let text = |key: &str| String::from_utf8(world.store[key].to_vec()).unwrap();
    let current = text("_current-profile");
    let profiles: BTreeMap<String, LoginProfile> =
        serde_json::from_str(&text("_profiles")).unwrap();
    let (id, profile) = profiles.iter().next().unwrap();
    assert_eq!((current.clone(), id.len()), (format!("profile-{id}"), 4));
    assert_eq!(profile.name, "user1");
    assert_eq!(profile.network_profile.magic_dns_name, "tail.example");
    let prefs = Prefs::from_stored(&world.store[&current]).unwrap();
    let key = prefs.persist.unwrap().private_node_key.clone();
    assert_eq!(Some(key.public()), world.brain.snapshot().node_key);
    assert!(text("_machinekey").starts_with("privkey:"));
}

#[test]
fn what_does_not_change_is_not_written() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    world.store.clear();
    world.netmap("node1", 1);
    world.want_running(true);
    assert!(world.store.is_empty());
}

#[test]
fn a_store_with_a_value_that_cannot_be_read_is_left_alone() {
    for (key, value) in [
        ("_profiles", "{"),
        ("_machinekey", "privkey:00"),
        ("_current-profile", "profile-0001"),
    ] {
        let mut store: BTreeMap<String, Zeroizing<Vec<u8>>> = BTreeMap::new();
        store.insert(key.into(), value.as_bytes().to_vec().into());
        if key == "_current-profile" {
            let known = r#"{"0001":{"ID":"0001","Key":"profile-0001"}}"#;
            store.insert("_profiles".into(), known.as_bytes().to_vec().into());
            store.insert("profile-0001".into(), b"{\"CorpDNS\":7}".to_vec().into());
        }
        let mut world = World::with_store(store.clone());
        world.send(Event::Boot);
        world.command(Command::LoginInteractive(Recipient::Everybody));
        assert_eq!(world.brain.snapshot().state, State::NoState, "{key}");
        assert_eq!(world.store, store);
        assert_eq!(world.brain.snapshot().health_texts.len(), 2, "{key}");
    }
}

#[test]
fn the_login_of_an_older_daemon_is_taken_over() {
    let prefs = Prefs {
        want_running: true,
        persist: persist(1, 1),
        ..Prefs::new()
    };
    let mut store: BTreeMap<String, Zeroizing<Vec<u8>>> = BTreeMap::new();
    store.insert("_daemon".into(), prefs.to_stored());
    let mut world = World::with_store(store);
    world.send(Event::Boot);
    assert_eq!(world.brain.snapshot().profiles.len(), 1);
    assert!(world.store.contains_key("_daemon"));
    assert!(world.brain.snapshot().prefs.want_running);
}

#[test]
fn switching_and_deleting() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    let first = world.brain.snapshot().profile.id.clone();
    world.command(Command::NewProfile);
    world.up();
    world.registered(2, "user2");
    world.netmap("node2", 2);
    assert_eq!(world.brain.snapshot().profiles.len(), 2);
    let switched = world.command(Command::SwitchProfile(first.clone()));
    assert_eq!(
        switched,
        ["Shutdown", "State NoState", "Prefs on", "New", "Login"]
    );
    assert_eq!(world.brain.snapshot().profile.name, "user1");
    assert_eq!(
        world.command(Command::SwitchProfile("none".into())),
        ["refused: profile not found"]
    );
    world.command(Command::DeleteProfile(first));
    assert_eq!(world.brain.snapshot().profiles.len(), 1);
    assert_eq!(world.brain.snapshot().state, State::NeedsLogin);
    world.command(Command::ResetAuth);
    assert_eq!(world.brain.snapshot().profiles.len(), 0);
    assert!(!world.store.contains_key("_machinekey"));
}
