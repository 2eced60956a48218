use super::world::*;
use crate::Output;

#[test]
fn own_home_is_opened_once_measured_and_stays_open() {
    let mut world = World::new(1, &[1, 2], &[(1, 5), (2, 50)]);
    world.run(SEC * 2);
    assert_eq!(world.nodes[0].regions(), [1]);
    world.run(SEC * 600);
    assert_eq!(world.nodes[0].regions(), [1]);
    assert_eq!(
        world.nodes[0].ms.next_timeout(),
        None,
        "an idle machine has no timers"
    );
}

#[test]
fn peers_home_is_opened_on_demand_and_closed_after_a_minute() {
    let mut world = World::new(2, &[1, 2], &[(1, 5), (2, 50)]);
    world.run(SEC * 2);
    assert!(world.send(0, 1, b"data"));
    assert_eq!(world.nodes[0].regions(), [1, 2]);
    world.run(SEC * 59);
    assert_eq!(world.nodes[0].regions(), [1, 2]);
    world.run(SEC * 17);
    assert_eq!(world.nodes[0].regions(), [1]);
    let idle = |o: &Output| matches!(o, Output::CloseLink { why: "idle", .. });
    assert_eq!(world.nodes[0].log.iter().filter(|o| idle(o)).count(), 1);
}

#[test]
fn sending_keeps_a_link_open_receiving_does_not() {
    let mut world = World::new(3, &[1, 2], &[(1, 5), (2, 5)]);
    world.run(SEC * 2);
    for _ in 0..20 {
        world.send(0, 1, b"data");
        world.run(SEC * 10);
        assert!(world.nodes[0].regions().contains(&2));
    }
}

#[test]
fn answers_take_the_way_by_which_the_peer_was_heard() {
    // Node 1 is at home in 2 as it seems to node 0, but speaks through region 1.
    let mut world = World::new(4, &[1, 2], &[(1, 5), (2, 50)]);
    world.run(SEC * 2);
    assert_eq!(world.nodes[1].regions(), [1]);
    assert!(world.send(1, 0, b"hello"));
    world.run(SEC);
    assert_eq!(world.nodes[0].data.len(), 1);
    assert!(world.send(0, 1, b"answer"));
    assert_eq!(
        world.nodes[0].regions(),
        [1],
        "no link to region 2 is needed"
    );
    world.run(SEC);
    assert_eq!(world.nodes[1].data.len(), 1);
}

#[test]
fn a_restarted_relay_makes_routes_forgotten_and_learnt_again() {
    let mut world = World::new(5, &[1, 2], &[(1, 5), (2, 50)]);
    world.run(SEC * 2);
    world.send(1, 0, b"hello");
    world.run(SEC);
    world.restart_relay(1);
    world.send(0, 1, b"x");
    assert_eq!(
        world.nodes[0].regions(),
        [1, 2],
        "the route died, so the peer's home is tried"
    );
    world.run(SEC * 120);
    world.send(1, 0, b"again");
    world.run(SEC);
    world.send(0, 1, b"x");
    assert_eq!(world.nodes[0].regions(), [1]);
}

#[test]
fn peer_gone_ends_a_route_of_that_link_only_and_it_can_be_learnt_again() {
    let mut world = World::new(6, &[1, 2], &[(1, 5), (2, 50)]);
    world.run(SEC * 2);
    world.send(1, 0, b"hello");
    world.run(SEC);
    let key = world.nodes[1].key;
    let (_, link) = world.nodes[0].ms.links().next().unwrap();
    world.nodes[0]
        .ms
        .handle_peer_gone(crate::LinkId(link.0 + 7), &key);
    world.send(0, 1, b"x");
    assert_eq!(world.nodes[0].regions(), [1]);
    world.nodes[0].ms.handle_peer_gone(link, &key);
    world.send(0, 1, b"x");
    assert_eq!(world.nodes[0].regions(), [1, 2]);
}

#[test]
fn nothing_is_routed_without_key_relays_or_permission() {
    let mut world = World::new(7, &[1, 1], &[(1, 5)]);
    world.run(SEC);
    let now = world.now;
    world.nodes[0].ms.set_running(false, now);
    world.drain(0);
    assert!(world.nodes[0].links.is_empty());
    assert!(!world.send(0, 1, b"x"));
    world.nodes[0].ms.set_running(true, now);
    assert!(world.send(0, 1, b"x"));
    world.nodes[0].ms.set_node_key(None, now);
    assert!(!world.send(0, 1, b"x"));
    let key = world.nodes[0].key;
    world.nodes[0].ms.set_node_key(Some(key), now);
    assert!(world.send(0, 1, b"x"));
    world.nodes[0].ms.set_derp_map(None, now);
    assert!(!world.send(0, 1, b"x"));
    assert_eq!(world.nodes[0].ms.home(), 0);
}

#[test]
fn an_unknown_home_region_drops_even_if_the_peer_was_heard() {
    let mut world = World::new(8, &[1, 9], &[(1, 5)]);
    world.run(SEC);
    world.send(1, 0, b"hello");
    world.run(SEC);
    assert!(!world.send(0, 1, b"x"));
    let config = world.peer(1, 0);
    world.nodes[0].ms.upsert_peer(&config);
    assert!(
        world.send(0, 1, b"x"),
        "without any home the way back is the last resort"
    );
}

#[test]
fn a_redefined_region_is_left_and_a_new_home_measured() {
    let mut world = World::new(9, &[1, 1], &[(1, 5), (2, 50)]);
    world.run(SEC * 2);
    world.delays.remove(&1);
    let (map, now) = (world.map(), world.now);
    world.nodes[0].ms.set_derp_map(Some(map), now);
    world.drain(0);
    assert!(world.nodes[0].regions().is_empty());
    world.run(SEC * 10);
    assert_eq!(world.nodes[0].ms.home(), 2);
    assert_eq!(world.nodes[0].regions(), [2]);
}

#[test]
fn closed_links_teach_nothing() {
    let mut world = World::new(10, &[1, 2], &[(1, 5), (2, 50)]);
    world.run(SEC * 2);
    let (_, old) = world.nodes[0].ms.links().next().unwrap();
    let now = world.now;
    world.nodes[0].ms.set_running(false, now);
    world.nodes[0].ms.set_running(true, now);
    world.drain(0);
    let key = world.nodes[1].key;
    assert_eq!(world.nodes[0].ms.heard(old, &key), None);
}
