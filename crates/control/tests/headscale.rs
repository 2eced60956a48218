//! The client against a real headscale.

use std::sync::Arc;
use std::time::Duration;

use control::{C2nRouter, Client, ClientConfig, Event, LoginRequest, MapParams};
use keys::{DiscoPrivate, LockPublic, MachinePrivate, NodePrivate, NodePublic};
use netmap::NetMap;
use tailcfg::Hostinfo;
use tailcfg::go::Secret;
use testkit::originals::{self, Headscale, HeadscaleOptions};
use tokio::sync::mpsc;

fn hostinfo(name: &str) -> Arc<Hostinfo> {
    Arc::new(Hostinfo {
        backend_log_id: "00".repeat(32),
        hostname: name.to_owned(),
        os: "linux".to_owned(),
        ipn_version: "1.103.0".to_owned(),
        ..Hostinfo::default()
    })
}

struct Node {
    client: Client,
    events: mpsc::Receiver<Event>,
    key: NodePublic,
    hostinfo: Arc<Hostinfo>,
}

impl Node {
    fn start(headscale: &Headscale, name: &str) -> Self {
        let (client, events) = Client::start(ClientConfig {
            server_url: headscale.url(),
            machine_key: MachinePrivate::generate(&mut rt::OsRng),
            dialer: Arc::new(transport::Dialer::new(transport::DialConfig::default())),
            paused: false,
            force_443: false,
            disco_key: DiscoPrivate::generate(&mut rt::OsRng).public(),
            c2n: C2nRouter::new(),
            dial_plan: control::DialPlan::default(),
        })
        .expect("headscale's url is a good one");
        Self {
            client,
            events,
            key: NodePrivate::generate(&mut rt::OsRng).public(),
            hostinfo: hostinfo(name),
        }
    }

    fn login(&self, auth_key: &str) {
        self.client.login(LoginRequest {
            node_key: self.key,
            old_node_key: NodePublic::ZERO,
            lock_key: LockPublic::default(),
            auth_key: Some(Secret::new(auth_key.to_owned())),
            hostinfo: Arc::clone(&self.hostinfo),
            ephemeral: false,
        });
    }

    fn start_map(&self) {
        self.client.start_map(MapParams {
            node_key: self.key,
            hostinfo: Arc::clone(&self.hostinfo),
        });
    }

    async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let mut seen = Vec::new();
        loop {
            let next = tokio::time::timeout(Duration::from_secs(30), self.events.recv()).await;
            let Ok(Some(event)) = next else {
                panic!("{what} did not come; seen: {seen:#?}");
            };
            if let Some(picked) = pick(&event) {
                return picked;
            }
            seen.push(format!("{event:.200?}"));
        }
    }

    async fn registered(&mut self) -> String {
        self.until("registered", |event| match event {
            Event::Registered(user) => Some(user.login_name.clone()),
            _ => None,
        })
        .await
    }

    async fn map_where(&mut self, what: &str, good: impl Fn(&NetMap) -> bool) -> Arc<NetMap> {
        self.until(what, |event| match event {
            Event::Map(change) if good(change.map()) => Some(Arc::clone(change.map())),
            _ => None,
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn join_see_each_other_survive_a_restart_and_leave() {
    let test = "join_see_each_other_survive_a_restart_and_leave";
    let Some(mut headscale) = originals::headscale(test, &HeadscaleOptions::default()) else {
        return;
    };
    let key = headscale.auth_key(&headscale.create_user("alice"), &[]);

    let mut first = Node::start(&headscale, "first");
    first.login(&key);
    assert_eq!(first.registered().await, "alice");
    first.start_map();
    let map = first.map_where("first map", |_| true).await;
    assert!(
        map.self_node.name.starts_with("first."),
        "{}",
        map.self_node.name
    );
    assert!(map.derp_map.region(900).is_some());

    let mut second = Node::start(&headscale, "second");
    second.login(&key);
    second.registered().await;
    second.start_map();
    let endpoint = "192.0.2.7:4711".parse().unwrap();
    second.client.set_endpoints(vec![(endpoint, 1)]);
    second
        .map_where("the first peer", |map| map.peers.iter().count() == 1)
        .await;
    first
        .map_where("the second peer's endpoint", |map| {
            map.peers
                .iter()
                .any(|peer| peer.endpoints.contains(&endpoint))
        })
        .await;

    headscale.kill();
    first
        .until("map down", |event| match event {
            Event::MapDown { error } => error.clone(),
            _ => None,
        })
        .await;
    headscale.start_again();
    first
        .map_where("a map after the restart", |map| {
            map.peers.iter().count() == 1
        })
        .await;

    second.client.logout(second.key);
    second
        .until("logged out", |event| match event {
            Event::LoggedOut(result) => Some(result.clone()),
            _ => None,
        })
        .await
        .unwrap();
    first
        .map_where("the second peer's expiry or absence", |map| {
            map.peers.iter().all(|peer| peer.expired)
        })
        .await;
    first.client.shutdown().await;
    second.client.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_auth_keys_interactive_login_and_unknown_nodes() {
    let test = "bad_auth_keys_interactive_login_and_unknown_nodes";
    let Some(headscale) = originals::headscale(test, &HeadscaleOptions::default()) else {
        return;
    };
    let user = headscale.create_user("bob");
    let mut node = Node::start(&headscale, "node");
    node.login("hskey-auth-wrong-key");
    let error = node
        .until("refusal", |event| match event {
            Event::RegisterFailed {
                error,
                for_user: true,
            } => Some(error.clone()),
            _ => None,
        })
        .await;
    assert!(error.to_lowercase().contains("key"), "{error}");

    node.start_map();
    node.until("not registered", |event| {
        matches!(event, Event::NotRegistered).then_some(())
    })
    .await;

    node.login("");
    let page = node
        .until("page", |event| match event {
            Event::AuthUrl(url) => Some(url.clone()),
            _ => None,
        })
        .await;
    let id = page.rsplit('/').next().unwrap().to_owned();
    headscale.cli(&["auth", "register", "--auth-id", &id, "-u", "bob"]);
    assert_eq!(node.registered().await, "bob");
    node.start_map();
    node.map_where("map after the page", |_| true).await;
    drop(user);
}
