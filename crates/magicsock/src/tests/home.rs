use super::world::*;
use crate::Output;

fn homes(world: &World, node: usize) -> Vec<u16> {
    let homes = world.nodes[node].log.iter().filter_map(|o| match o {
        Output::HomeChanged(region) => Some(*region),
        _ => None,
    });
    homes.collect()
}

#[test]
fn the_nearest_region_becomes_home() {
    let mut world = World::new(1, &[1], &[(1, 50), (2, 5), (3, 20)]);
    world.run(SEC);
    assert_eq!(homes(&world, 0), [2]);
    let preferred = world.nodes[0].log.iter().find_map(|o| match o {
        Output::Report(report) => Some(report.preferred_derp),
        _ => None,
    });
    assert_eq!(preferred, Some(Some(2)));
}

#[test]
fn a_dead_home_is_left_and_servers_are_told() {
    let mut world = World::new(2, &[1], &[(1, 5), (2, 50)]);
    world.run(SEC * 60);
    world.down.insert(1);
    for _ in 0..10 {
        world.restart_relay(1);
        world.run(SEC * 2);
    }
    assert_eq!(homes(&world, 0), [1, 2]);
    let told = world.nodes[0]
        .log
        .iter()
        .any(|o| matches!(o, Output::NotePreferred { home: false, .. }));
    assert!(told, "the old home's server must learn of it");
}

#[test]
fn without_a_map_stream_an_existing_home_stays() {
    let mut world = World::new(3, &[1], &[(1, 5), (2, 50)]);
    world.run(SEC * 60);
    world.nodes[0].ms.set_map_streaming(false);
    world.down.insert(1);
    for _ in 0..10 {
        world.restart_relay(1);
        world.run(SEC * 5);
    }
    assert_eq!(homes(&world, 0), [1]);
}

#[test]
fn without_udp_some_region_is_still_chosen_and_kept() {
    let mut world = World::new(4, &[1], &[(1, 5), (2, 5), (3, 5)]);
    world.down.extend([1, 2, 3]);
    world.run(SEC * 10);
    let first = homes(&world, 0);
    assert_eq!(first.len(), 1);
    let now = world.now;
    world.nodes[0].ms.handle_link_change(true, now);
    world.run(SEC * 10);
    assert_eq!(homes(&world, 0), first);
}

#[test]
fn traffic_causes_measurements_now_and_then_silence_none() {
    let mut world = World::new(5, &[1, 1], &[(1, 5)]);
    world.run(SEC);
    let before = world.nodes[0].probes;
    world.run(SEC * 3600);
    assert_eq!(world.nodes[0].probes, before);
    for _ in 0..60 {
        world.send(0, 1, b"x");
        world.run(SEC);
    }
    let grown = world.nodes[0].probes - before;
    assert!((2..=20).contains(&grown), "{grown} probes in a minute");
}
