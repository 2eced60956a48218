//! Changes that are undone, and what can be known of a change before.

use std::time::Duration;

use ipn::MaskedPrefs;

use super::World;
use crate::{Answer, Backend, Command, Event};

const WITHIN: Duration = Duration::from_secs(30);

fn exit_node(id: &str) -> MaskedPrefs {
    let mut edit = MaskedPrefs {
        exit_node_id_set: true,
        ..MaskedPrefs::default()
    };
    edit.prefs.exit_node_id = id.to_owned();
    edit
}

fn tried(edit: MaskedPrefs) -> World {
    let mut world = World::new();
    world.bring_up("node1", 1);
    world.command(Command::TryPrefs {
        edit: Box::new(edit),
        within: WITHIN,
    });
    world
}

fn exit_of(world: &World) -> String {
    world.brain.snapshot().prefs.exit_node_id.clone()
}

/// Has the brain hear of the time when it wants to.
fn wait(world: &mut World, time: Duration) {
    world.pass(time);
    world.send(Event::Timer);
}

#[test]
fn what_nobody_confirms_is_undone() {
    let mut world = tried(exit_node("exit"));
    assert_eq!(exit_of(&world), "exit");
    assert!(world.brain.next_timeout().is_some());
    wait(&mut world, WITHIN / 2);
    assert_eq!(exit_of(&world), "exit");
    wait(&mut world, WITHIN);
    assert_eq!(exit_of(&world), "");
    let router = world.router.clone().unwrap();
    assert!(!router.routes.iter().any(|net| net.prefix_len() == 0));
}

#[test]
fn what_is_confirmed_or_changed_again_stays() {
    let mut world = tried(exit_node("exit"));
    world.command(Command::ConfirmPrefs);
    wait(&mut world, WITHIN * 2);
    assert_eq!(exit_of(&world), "exit");

    let mut world = tried(exit_node("exit"));
    world.edit(|edit| {
        edit.hostname_set = true;
        edit.prefs.hostname = "other".into();
    });
    wait(&mut world, WITHIN * 2);
    assert_eq!(exit_of(&world), "exit");
}

#[test]
fn a_daemon_that_dies_meanwhile_starts_with_what_was_before() {
    let mut world = tried(exit_node("exit"));
    assert_eq!(exit_of(&world.restarted()), "");
    // What is written for other reasons keeps it back, too.
    world.registered(1, "renamed");
    assert_eq!(exit_of(&world), "exit");
    assert_eq!(exit_of(&world.restarted()), "");
    world.command(Command::ConfirmPrefs);
    assert_eq!(exit_of(&world.restarted()), "exit");

    let mut world = tried(exit_node("exit"));
    wait(&mut world, WITHIN * 2);
    assert_eq!(exit_of(&world.restarted()), "");
    world.edit(|edit| *edit = exit_node("other"));
    assert_eq!(exit_of(&world.restarted()), "other");

    let mut world = tried(exit_node("exit"));
    world.edit(|edit| {
        edit.hostname_set = true;
        edit.prefs.hostname = "other".into();
    });
    assert_eq!(exit_of(&world.restarted()), "exit");
}

#[test]
fn a_second_trial_keeps_the_first() {
    let mut world = tried(exit_node("exit"));
    let mut edit = MaskedPrefs {
        shields_up_set: true,
        ..MaskedPrefs::default()
    };
    edit.prefs.shields_up = true;
    world.command(Command::TryPrefs {
        edit: Box::new(edit),
        within: WITHIN,
    });
    let shields = |world: &World| world.brain.snapshot().prefs.shields_up;
    assert!(shields(&world));
    let later = world.restarted();
    assert_eq!((exit_of(&later).as_str(), shields(&later)), ("exit", false));
    wait(&mut world, WITHIN * 2);
    assert_eq!((exit_of(&world).as_str(), shields(&world)), ("exit", false));
}

#[test]
fn another_login_is_not_touched() {
    let mut world = tried(exit_node("exit"));
    world.command(Command::NewProfile);
    world.edit(|edit| *edit = exit_node("other"));
    wait(&mut world, WITHIN * 2);
    assert_eq!(exit_of(&world), "other");
    let mut world = tried(exit_node("exit"));
    world.command(Command::NewProfile);
    assert_eq!(world.brain.trial.as_ref().map(|trial| trial.until), None);
}

#[test]
fn what_changes_nothing_leaves_nothing_to_undo() {
    let mut world = tried(exit_node(""));
    wait(&mut world, WITHIN * 2);
    assert_eq!(exit_of(&world), "");
}

#[test]
fn a_change_can_be_looked_at_before() {
    let mut world = World::new();
    world.bring_up("node1", 1);
    let preview = |brain: &Backend, edit: MaskedPrefs| match brain.preview(edit).unwrap() {
        Answer::Preview(preview) => *preview,
        other => panic!("{other:?}"),
    };
    let now = preview(&world.brain, MaskedPrefs::default());
    assert_eq!(Some(&now.router), world.router.as_ref());
    let with_exit = preview(&world.brain, exit_node("exit")).router.routes;
    assert!(with_exit.contains(&"0.0.0.0/0".parse().unwrap()));
    assert_eq!(Some(&now.router), world.router.as_ref());
    let mut down = MaskedPrefs {
        want_running_set: true,
        ..MaskedPrefs::default()
    };
    down.prefs.want_running = false;
    assert!(preview(&world.brain, down).router.routes.is_empty());
}
