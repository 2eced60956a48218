//! What this node says of itself, and the small requests that tell it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use keys::{DiscoPublic, NodePublic};
use tailcfg::{EndpointType, Hostinfo, MapRequest};
use tokio::time::timeout;

use crate::Error;
use crate::connection::{Connector, routing_hint};
use crate::register::encode;

const WHAT: &str = "telling the control server about this node";
const UPDATE_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_LEN_MAX: usize = 1 << 20;
pub(crate) const MAP_PATH: &str = "/machine/map";

/// What this node says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeInfo {
    pub(crate) hostinfo: Arc<Hostinfo>,
    pub(crate) endpoints: Arc<[(SocketAddr, EndpointType)]>,
    pub(crate) disco_key: DiscoPublic,
    /// Grows with each change; 0 until there is something to tell.
    pub(crate) generation: u64,
}

impl NodeInfo {
    /// A map request for the long poll (`stream`) or for an update.
    pub(crate) fn map_request(&self, node_key: NodePublic, stream: bool) -> MapRequest {
        MapRequest {
            version: tailcfg::CAP.into(),
            compress: "zstd".to_owned(),
            keep_alive: true,
            node_key,
            disco_key: self.disco_key,
            stream,
            hostinfo: Some(Box::new((*self.hostinfo).clone())),
            endpoints: self.endpoints.iter().map(|(address, _)| *address).collect(),
            endpoint_types: self.endpoints.iter().map(|(_, kind)| *kind).collect(),
            omit_peers: !stream,
            ..MapRequest::default()
        }
    }
}

/// Sends an update; the answer's body does not matter.
pub(crate) async fn send_update(
    connector: &Connector,
    node_key: NodePublic,
    info: &NodeInfo,
) -> Result<(), Error> {
    let body = encode(WHAT, &info.map_request(node_key, false))?;
    let request = (Method::POST, MAP_PATH, routing_hint(&[node_key]), body);
    match timeout(
        UPDATE_TIMEOUT,
        connector.exchange(WHAT, request, ANSWER_LEN_MAX),
    )
    .await
    {
        Ok(answer) => answer?.expect_ok(WHAT),
        Err(_) => Err(Error::Timeout(WHAT)),
    }
}
