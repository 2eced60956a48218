//! The tailnet changes under way: new keys, expiry, the lock, and changes of a few peers among thousands.

use keys::DiscoPublic;
use netmap::MapSession;
use tailcfg::MapResponse;

use super::*;

/// A stream as it would come from a server, beside the brain that it is for.
struct Stream {
    world: World,
    session: MapSession,
}

fn own(world: &World) -> Node {
    let key = world.brain.node_key().map(|key| key.public());
    Node {
        id: 1,
        stable_id: "node1".into(),
        name: "me.tail.example.".into(),
        user: 1,
        key: key.unwrap_or_default(),
        addresses: vec!["100.64.0.1/32".parse().unwrap()],
        machine_authorized: true,
        ..Node::default()
    }
}

fn peer(id: i64) -> Node {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&id.to_be_bytes());
    let [a, b] = u16::try_from(id).unwrap().to_be_bytes();
    Node {
        id,
        stable_id: format!("peer{id}"),
        name: format!("p{id}.tail.example."),
        user: 1,
        key: NodePublic::from_bytes(bytes),
        disco_key: DiscoPublic::from_bytes(bytes),
        home_derp: 1,
        addresses: vec![format!("100.65.{a}.{b}/32").parse().unwrap()],
        machine_authorized: true,
        ..Node::default()
    }
}

impl Stream {
    /// A node that is up, with these peers.
    fn with(peers: Vec<Node>) -> Self {
        let mut world = World::new();
        world.bring_up("node1", 1);
        let session = MapSession::new();
        let mut this = Self { world, session };
        let node = Some(Box::new(own(&this.world)));
        this.say(MapResponse {
            node,
            peers,
            ..MapResponse::default()
        });
        this
    }

    fn say(&mut self, response: MapResponse) -> Vec<String> {
        let change = self.session.apply(response, self.world.wall).unwrap();
        self.world.updates.clear();
        match change {
            Some(change) => self.world.control(ControlEvent::NetMap(change)),
            None => Vec::new(),
        }
    }

    fn say_json(&mut self, json: &str) -> Vec<String> {
        self.say(serde_json::from_str(json).unwrap())
    }

    /// What the engine was told of peers since the last response: new or changed, and gone.
    fn told(&self) -> (Vec<i64>, Vec<i64>) {
        let mut told = (Vec::new(), Vec::new());
        for update in &self.world.updates {
            let PeersUpdate::Patch { changed, removed } = update else {
                panic!("all peers were sent");
            };
            told.0.extend(changed.iter().map(|peer| peer.id.0));
            told.1.extend(removed.iter().map(|id| id.0));
        }
        told
    }

    fn routes(&self, id: i64) -> Vec<String> {
        let routes = self.world.peers[&PeerId(id)].routes.iter();
        routes.map(ToString::to_string).collect()
    }
}

#[test]
fn a_change_of_one_peer_costs_one_peer() {
    let mut stream = Stream::with((2..=10_001).map(peer).collect());
    assert_eq!(stream.world.peers.len(), 10_000);
    let network = stream.world.network.clone();
    let router = stream.world.router.clone();
    let before = stream.world.peers.clone();
    for (json, changed, removed) in [
        (r#"{"OnlineChange":{"5000":true}}"#, vec![], vec![]),
        (
            r#"{"PeersChangedPatch":[{"NodeID":5000,"DERPRegion":7}]}"#,
            vec![5000],
            vec![],
        ),
        (
            r#"{"PeersChangedPatch":[{"NodeID":5000,"DERPRegion":7},{"NodeID":70000,"DERPRegion":1}]}"#,
            vec![],
            vec![],
        ),
        (
            r#"{"PeersChangedPatch":[{"NodeID":5000,"Endpoints":["192.0.2.1:1"]}],"PeersRemoved":[6000]}"#,
            vec![5000],
            vec![6000],
        ),
    ] {
        stream.say_json(json);
        assert_eq!(stream.told(), (changed, removed), "{json}");
    }
    assert_eq!(stream.world.peers[&PeerId(5000)].home_derp, 7);
    // Nothing else was derived anew, not even to the same.
    let untouched = before
        .iter()
        .filter(|(id, old)| {
            let new = stream.world.peers.get(id);
            new.is_some_and(|new| Arc::ptr_eq(old, new))
        })
        .count();
    assert_eq!(untouched, 9_998);
    let same = |a: &Option<Arc<Network>>, b: &Option<Arc<Network>>| {
        Arc::ptr_eq(a.as_ref().unwrap(), b.as_ref().unwrap())
    };
    assert!(same(&network, &stream.world.network));
    let routes = |config: &Option<host::RouterConfig>| config.as_ref().unwrap().routes.len();
    assert_eq!(
        routes(&router),
        routes(&stream.world.router) + 1,
        "6000 is gone"
    );
}

#[test]
fn routes_pass_from_peer_to_peer() {
    let with = |id, nets: &[&str]| {
        let mut node = peer(id);
        let own = node.addresses.clone();
        let more = nets.iter().map(|net| net.parse().unwrap());
        node.allowed_ips = Some(own.into_iter().chain(more).collect());
        node
    };
    let mut stream = Stream::with(vec![with(3, &["10.0.0.0/8"]), with(4, &["10.0.0.0/8"])]);
    stream.world.edit(|edit| {
        edit.route_all_set = true;
        edit.prefs.route_all = true;
    });
    let snapshot = |stream: &Stream| {
        let routes = stream.world.brain.snapshot().routes.clone();
        (routes.lookup([10, 1, 1, 1].into()).map(|id| id.0), routes)
    };
    assert_eq!(snapshot(&stream).0, Some(3));
    assert_eq!(stream.routes(4), ["100.65.0.4/32"]);
    // A lower number takes it over.
    stream.say(MapResponse {
        peers_changed: vec![with(2, &["10.0.0.0/8", "10.1.0.0/16"])],
        ..MapResponse::default()
    });
    assert_eq!(stream.told(), (vec![2, 3], vec![]));
    assert_eq!(stream.routes(3), ["100.65.0.3/32"]);
    assert_eq!(snapshot(&stream).0, Some(2));
    // And leaves it to the next, whether it goes, expires or gives it up.
    stream.say_json(r#"{"PeersRemoved":[2]}"#);
    assert_eq!(stream.told(), (vec![3], vec![2]));
    assert_eq!(stream.routes(3), ["10.0.0.0/8", "100.65.0.3/32"]);
    stream.say_json(r#"{"PeersChangedPatch":[{"NodeID":3,"KeyExpiry":"2023-03-01T00:00:00Z"}]}"#);
    assert_eq!(stream.told(), (vec![4], vec![3]));
    assert_eq!(snapshot(&stream).0, Some(4));
    stream.say(MapResponse {
        peers_changed: vec![with(4, &[])],
        ..MapResponse::default()
    });
    let (owner, routes) = snapshot(&stream);
    assert_eq!(owner, None);
    assert_eq!(routes.lookup([100, 65, 0, 4].into()), Some(PeerId(4)));
}

#[test]
fn contradictions_in_one_response_are_settled() {
    let mut stream = Stream::with(vec![peer(2), peer(3)]);
    // Gone and changed: changed comes later. Two peers with one key and one address: both are kept.
    let mut twin = peer(2);
    twin.id = 4;
    stream.say(MapResponse {
        peers_removed: vec![2, 2, 99],
        peers_changed: vec![peer(2), twin],
        ..MapResponse::default()
    });
    assert_eq!(stream.world.peers.len(), 3);
    assert_eq!(stream.routes(2), ["100.65.0.2/32"]);
    assert_eq!(stream.routes(4), Vec::<String>::new());
    stream.say_json(r#"{"PeersRemoved":[2]}"#);
    assert_eq!(stream.routes(4), ["100.65.0.2/32"]);
}

#[test]
fn what_came_while_a_login_was_due_is_not_lost() {
    let mut stream = Stream::with(vec![peer(2), peer(3)]);
    let past = at(stream.world.wall, -60);
    let expired = Node {
        key_expiry: past,
        ..own(&stream.world)
    };
    let node = |node: Node| MapResponse {
        node: Some(Box::new(node)),
        ..MapResponse::default()
    };
    assert_eq!(stream.say(node(expired)), ["State NeedsLogin"]);
    assert_eq!((stream.world.key, stream.world.peers.len()), (None, 0));
    // The long poll goes on, and changes with it.
    for json in [
        r#"{"PeersRemoved":[2]}"#,
        r#"{"PeersChangedPatch":[{"NodeID":3,"DERPRegion":9}]}"#,
    ] {
        assert!(stream.say_json(json).is_empty());
        assert!(stream.world.peers.is_empty());
    }
    let extended = own(&stream.world);
    assert_eq!(stream.say(node(extended)), ["State Starting"]);
    assert_eq!(stream.world.live(1), ["State Running"]);
    assert_eq!(stream.world.peers.len(), 1);
    assert_eq!(stream.world.peers[&PeerId(3)].home_derp, 9);
}

#[test]
fn a_new_key_leaves_the_data_path_alone_until_the_tailnet_knows_it() {
    let mut stream = Stream::with(vec![peer(2)]);
    let old = stream.world.key.unwrap();
    assert_eq!(
        stream
            .world
            .command(Command::LoginInteractive(Recipient::Everybody)),
        ["Login"]
    );
    let login = stream.world.login.clone().unwrap();
    assert_eq!(login.old_node_key, old);
    let page = ControlEvent::AuthUrl("http://control.example/a".into());
    assert_eq!(
        stream.world.control(page),
        ["Browse http://control.example/a"]
    );
    // The tailnet goes on changing while the user is at it.
    stream.say_json(r#"{"PeersChangedPatch":[{"NodeID":2,"DERPRegion":3}]}"#);
    assert_eq!(stream.told(), (vec![2], vec![]));
    assert_eq!(
        stream.world.registered(1, "user1"),
        ["LoginFinished", "Prefs on", "StartMap"]
    );
    let new = login.node_key.public();
    assert_eq!(stream.world.brain.snapshot().node_key, Some(new));
    let saved = stream.world.restarted().brain.node_key();
    assert!(
        saved.is_some_and(|saved| saved.public() == new),
        "saved at once"
    );
    assert_eq!(
        stream.world.key,
        Some(old),
        "the engine goes on with the old"
    );
    assert_eq!(stream.world.peers.len(), 1);

    let state = stream.world.brain.snapshot().state;
    assert_eq!(state, State::Running);
    stream.session = MapSession::new();
    let node = Some(Box::new(own(&stream.world)));
    let told = stream.say(MapResponse {
        node,
        peers: vec![peer(2)],
        ..MapResponse::default()
    });
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(stream.world.key, Some(new));
    assert_eq!(stream.world.brain.snapshot().state, State::Running);
}

#[test]
fn a_lock_takes_all_peers_away_and_gives_them_back() {
    let mut stream = Stream::with(vec![peer(2), peer(3)]);
    let texts = |stream: &Stream| stream.world.brain.snapshot().health_texts.join("\n");
    assert!(!texts(&stream).contains("Tailnet lock"));
    // With and without a head: what matters is that the server speaks of a lock.
    for lock in [r#"{"TKAInfo":{"Head":"ABC"}}"#, r#"{"TKAInfo":{}}"#] {
        stream.say_json(lock);
        assert!(stream.world.peers.is_empty(), "{lock}");
        assert!(texts(&stream).contains("Tailnet lock"));
        assert_eq!(
            stream
                .world
                .brain
                .snapshot()
                .routes
                .lookup([100, 65, 0, 2].into()),
            None
        );
        // Whoever comes while it is locked is not let in.
        stream.say(MapResponse {
            peers_changed: vec![peer(4)],
            ..MapResponse::default()
        });
        assert!(stream.world.peers.is_empty());
        stream.say_json(r#"{"TKAInfo":{"Disabled":true}}"#);
        assert_eq!(stream.world.peers.len(), 3);
        assert!(!texts(&stream).contains("Tailnet lock"));
        stream.say_json(r#"{"PeersRemoved":[4]}"#);
    }
    assert_eq!(stream.world.brain.snapshot().state, State::Running);
}

#[test]
fn peers_may_be_jailed_masked_and_freed() {
    let mut stream = Stream::with(vec![peer(2)]);
    let config = |stream: &Stream| stream.world.peers[&PeerId(2)].clone();
    assert!(!config(&stream).jailed);
    for (jailed, v4, v6, want_v4, want_v6) in [
        (true, Some("100.99.0.1"), Some("fd7a::9"), true, true),
        (false, Some("fd7a::9"), Some("100.99.0.1"), false, false),
        (true, None, None, false, false),
        (false, None, None, false, false),
    ] {
        let parse = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        let changed = Node {
            is_jailed: jailed,
            self_node_v4_masq_addr_for_this_peer: parse(v4),
            self_node_v6_masq_addr_for_this_peer: parse(v6),
            ..peer(2)
        };
        stream.say(MapResponse {
            peers_changed: vec![changed],
            ..MapResponse::default()
        });
        let config = config(&stream);
        assert_eq!(config.jailed, jailed);
        assert_eq!(config.masquerade.v4.is_some(), want_v4);
        assert_eq!(config.masquerade.v6.is_some(), want_v6);
    }
}

#[test]
fn a_disco_key_that_a_peer_tells_goes_the_way_of_the_servers_news() {
    let mut stream = Stream::with(vec![peer(2)]);
    let told = |id, key| {
        Event::Engine(EngineEvent::DiscoAdvertised {
            peer: PeerId(id),
            key,
        })
    };
    let key = DiscoPublic::from_bytes([9; 32]);
    assert_eq!(stream.world.send(told(2, key)), ["Learned"]);
    let none: [&str; 0] = [];
    assert_eq!(stream.world.send(told(3, key)), none, "nobody");
    assert_eq!(stream.world.send(told(2, DiscoPublic::ZERO)), none);
}

#[test]
fn a_clock_that_jumps_a_year_expires_nobody_for_good() {
    let year = 365 * 24 * 3600;
    let start = World::new().wall;
    let mut mortal = peer(2);
    mortal.key_expiry = at(start, 3600);
    let mut stream = Stream::with(vec![mortal, peer(3)]);
    // The server's clock is right; ours jumps.
    let right = stream.world.wall;
    for (jump, before) in [(year, 1), (-year, 2)] {
        stream.world.wall = Wall::from_unix_secs(right.as_unix_secs() + jump);
        stream.world.send(Event::Timer);
        assert_eq!(stream.world.peers.len(), before, "{jump}");
        let time = at(right, 1);
        stream.say_json(&format!(r#"{{"KeepAlive":true,"ControlTime":"{time}"}}"#));
        assert_eq!(stream.world.peers.len(), 2, "{jump}");
        let state = stream.world.brain.snapshot().state;
        assert_eq!(state, State::Running, "{jump}");
    }
}
