//! Tests of the session: the originals' tables, and a model.

mod deltas;
mod fields;
mod lookups;
mod model;

use std::sync::Arc;

use host::Wall;
use tailcfg::{MapResponse, Node};

use super::*;

const NOW: Wall = Wall::from_unix_secs(1_700_000_000);

fn node(id: i64, name: &str) -> Node {
    Node {
        id,
        name: name.into(),
        ..Node::default()
    }
}

fn read(json: &str) -> MapResponse {
    serde_json::from_str(json).unwrap()
}

fn first(peers: Vec<Node>) -> MapResponse {
    MapResponse {
        node: Some(Box::new(node(1000, "self.x.net."))),
        peers,
        ..MapResponse::default()
    }
}

fn session(peers: Vec<Node>) -> MapSession {
    let mut session = MapSession::new();
    let change = session.apply(first(peers), NOW).unwrap();
    assert!(matches!(change, Some(NetMapChange::Full(_))));
    session
}

/// Applies a response that must change something.
fn map_after(session: &mut MapSession, response: MapResponse) -> Arc<NetMap> {
    Arc::clone(session.apply(response, NOW).unwrap().unwrap().map())
}
