//! Which warnings show up when.

use host::Applied;

use super::*;

fn texts(world: &World) -> Vec<String> {
    world.brain.snapshot().health_texts.to_vec()
}

fn codes(world: &World) -> Vec<String> {
    let warnings = world
        .brain
        .snapshot()
        .health
        .warnings
        .clone()
        .unwrap_or_default();
    warnings.into_keys().collect()
}

fn derp(world: &mut World, connected: bool) {
    world.send(Event::Engine(EngineEvent::HomeDerp(1)));
    world.send(Event::Engine(EngineEvent::DerpConnected {
        region: 1,
        connected,
    }));
}

#[test]
fn a_healthy_node_has_nothing_to_say() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    derp(&mut world, true);
    assert_eq!(texts(&world), Vec::<String>::new());
    assert_eq!(world.brain.snapshot().health.warnings, None);
}

#[test]
fn no_relay_shows_after_ten_seconds() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    world.pass(Duration::from_secs(6));
    world.send(Event::Timer);
    assert_eq!(codes(&world), Vec::<String>::new());
    let due = world.brain.next_timeout().unwrap();
    assert!(due <= world.now + Duration::from_secs(10));
    world.pass(Duration::from_secs(11));
    world.send(Event::Timer);
    assert_eq!(codes(&world), ["no-derp-home"]);
    derp(&mut world, false);
    assert_eq!(
        codes(&world),
        Vec::<String>::new(),
        "a home that is being dialed is no news yet"
    );
    world.pass(Duration::from_secs(11));
    world.send(Event::Timer);
    assert_eq!(codes(&world), ["no-derp-connection"]);
    derp(&mut world, true);
    world.pass(Duration::from_secs(126));
    world.control(ControlEvent::MapHeard);
    assert_eq!(codes(&world), ["derp-timed-out"]);
    world.send(Event::Engine(EngineEvent::DerpHeard { region: 1 }));
    assert_eq!(codes(&world), Vec::<String>::new());
}

#[test]
fn a_silent_control_server() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    derp(&mut world, true);
    world.pass(Duration::from_secs(126));
    world.send(Event::Engine(EngineEvent::DerpHeard { region: 1 }));
    assert_eq!(codes(&world), ["mapresponse-timeout"]);
    assert_eq!(
        texts(&world),
        ["Tailscale hasn't received a network map from the coordination server in 2m6s."]
    );
    world.control(ControlEvent::MapDown {
        error: Some("timeout".into()),
    });
    world.pass(Duration::from_secs(11));
    world.send(Event::Timer);
    world.pass(Duration::from_secs(8 * 60));
    world.send(Event::Timer);
    assert!(
        codes(&world).contains(&"not-in-map-poll".to_owned()),
        "{:?}",
        codes(&world)
    );
    world.send(link(false));
    world.pass(Duration::from_secs(6));
    world.send(Event::Timer);
    assert!(
        !codes(&world).contains(&"not-in-map-poll".to_owned()),
        "the network is the reason"
    );
}

#[test]
fn a_start_is_announced_and_over() {
    let mut world = World::new();
    world.send(Event::Boot);
    world.up();
    assert_eq!(codes(&world), ["warming-up"]);
    world.pass(Duration::from_secs(6));
    world.send(Event::Timer);
    assert!(!codes(&world).contains(&"warming-up".to_owned()));
}

#[test]
fn messages_of_the_control_server() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    derp(&mut world, true);
    let message = tailcfg::DisplayMessage {
        title: "Careful".into(),
        text: "There is a hole.".into(),
        severity: "high".into(),
        primary_action: Some(tailcfg::DisplayMessageAction {
            url: "javascript:evil".into(),
            label: "Mend".into(),
        }),
        ..tailcfg::DisplayMessage::default()
    };
    let change = world.map("node1", 1, |_, map| {
        map.messages = Arc::new([("hole".to_owned(), message)].into());
    });
    world.control(ControlEvent::NetMap(change));
    assert_eq!(codes(&world), ["control-health.hole"]);
    assert_eq!(
        texts(&world),
        ["Careful: There is a hole."],
        "the link is not one to follow"
    );
}

#[test]
fn a_router_that_fails_is_told_and_tried_again() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    derp(&mut world, true);
    world.router = None;
    let applied = |failures: &[&str], notes: &[&str]| {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        Event::Applied {
            target: Target::Router,
            applied: Applied {
                failures: texts(failures),
                notes: texts(notes),
                ..Applied::default()
            },
        }
    };
    world.send(applied(&["no such device"], &[]));
    assert_eq!(texts(&world), ["no such device"]);
    assert_eq!(world.router, None);
    let due = world.brain.next_timeout().unwrap();
    world.now = due;
    world.send(Event::Timer);
    assert!(world.router.is_some());
    world.send(applied(&[], &["the network here is used"]));
    assert_eq!(texts(&world), ["the network here is used"]);
    world.send(applied(&[], &[]));
    assert_eq!(texts(&world), Vec::<String>::new());
}
