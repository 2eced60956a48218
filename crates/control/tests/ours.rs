//! The client against our own control server.

use std::sync::Arc;
use std::time::Duration;

use control::{C2nRouter, Client, ClientConfig, Event, LoginRequest, MapParams};
use controlserver::{Config, NewAuthKey, Server};
use keys::{DiscoPrivate, MachinePrivate, NodePrivate, NodePublic};
use tailcfg::Hostinfo;
use tailcfg::go::Secret;
use tokio::sync::mpsc;

fn start(server: &Server, name: &str) -> (Client, mpsc::Receiver<Event>, LoginRequest) {
    let (client, events) = Client::start(ClientConfig {
        server_url: server.url(),
        machine_key: MachinePrivate::generate(&mut rt::OsRng),
        dialer: Arc::new(transport::Dialer::new(transport::DialConfig::default())),
        paused: false,
        force_443: false,
        disco_key: DiscoPrivate::generate(&mut rt::OsRng).public(),
        c2n: C2nRouter::new(),
        dial_plan: control::DialPlan::default(),
    })
    .expect("the server's address makes a good url");
    let login = LoginRequest {
        node_key: NodePrivate::generate(&mut rt::OsRng).public(),
        old_node_key: NodePublic::ZERO,
        hostinfo: Arc::new(Hostinfo {
            backend_log_id: "00".repeat(32),
            hostname: name.to_owned(),
            ..Hostinfo::default()
        }),
        ..LoginRequest::default()
    };
    (client, events, login)
}

async fn until<T>(
    events: &mut mpsc::Receiver<Event>,
    mut pick: impl FnMut(Event) -> Option<T>,
) -> T {
    let found = async {
        loop {
            let event = events.recv().await.expect("the client must live");
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), found).await;
    found.expect("the event must come")
}

#[tokio::test]
async fn two_nodes_see_each_other() {
    let server = Server::start(Config::default())
        .await
        .expect("the server must start");
    let admin = server.admin();
    let key = admin.create_auth_key(NewAuthKey {
        reusable: true,
        ..NewAuthKey::default()
    });
    let key = key
        .await
        .expect("a key must be made")
        .key
        .unwrap_or_default();
    let mut nodes = Vec::new();
    for name in ["one", "two"] {
        let (client, mut events, mut login) = start(&server, name);
        login.auth_key = Some(Secret::new(key.clone()));
        client.login(login.clone());
        until(&mut events, |event| {
            matches!(event, Event::Registered(_)).then_some(())
        })
        .await;
        client.start_map(MapParams {
            node_key: login.node_key,
            hostinfo: login.hostinfo,
        });
        nodes.push((client, events));
    }
    for (_, events) in &mut nodes {
        until(events, |event| match event {
            Event::Map(change) => (change.map().peers.iter().count() == 1).then_some(()),
            _ => None,
        })
        .await;
    }
}
