//! What the server asks in passing: whether we are there, and requests to ourselves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use tailcfg::{PingRequest, PingResponse};
use tokio::time::timeout;
use transport::client::{OneShot, send};

use crate::connection::Connector;
use crate::register::encode;
use crate::{C2nResponse, C2nRouter, Error, parse_request};

const PING_TIMEOUT: Duration = Duration::from_secs(15);
const C2N_TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_LEN_MAX: usize = 64 << 10;

/// Whether the client can answer this by itself; the rest needs the packet engine.
pub(crate) fn is_ours(request: &PingRequest) -> bool {
    request.types.is_empty() || request.types == "c2n"
}

/// Answers a ping that [`is_ours`].
pub(crate) async fn answer(
    connector: Arc<Connector>,
    c2n: C2nRouter,
    request: PingRequest,
) -> Result<(), Error> {
    if request.log {
        tracing::info!(
            "the control server pings us, types `{}`",
            request.types.escape_debug()
        );
    }
    if request.types.is_empty() {
        return deliver(
            &connector,
            "answering a ping",
            Method::HEAD,
            &request,
            Bytes::new(),
            PING_TIMEOUT,
        )
        .await;
    }
    if !request.url_is_noise {
        return Err(Error::Unable(
            "a request to this node must come over the control protocol",
        ));
    }
    let response = match parse_request(&request.payload.0) {
        Ok(inner) => c2n.answer(inner).await,
        Err(error) => C2nResponse::text(400, &error),
    };
    let body = response.encode().into();
    deliver(
        &connector,
        "answering a request to this node",
        Method::POST,
        &request,
        body,
        C2N_TIMEOUT,
    )
    .await
}

/// Reports what became of a ping to a peer.
pub(crate) async fn report(
    connector: &Connector,
    request: &PingRequest,
    response: &PingResponse,
) -> Result<(), Error> {
    let what = "reporting a ping";
    let body = encode(what, response)?;
    deliver(connector, what, Method::POST, request, body, PING_TIMEOUT).await
}

/// The answer's status does not matter: the server has heard us.
async fn deliver(
    connector: &Connector,
    what: &'static str,
    method: Method,
    request: &PingRequest,
    body: Bytes,
    limit: Duration,
) -> Result<(), Error> {
    if !request.url_is_noise {
        let one_shot = OneShot {
            method,
            body,
            timeout: limit,
            ..OneShot::get(&request.url, ANSWER_LEN_MAX)
        };
        let sent = send(connector.dialer(), one_shot).await;
        return sent.map(drop).map_err(|error| Error::Answer {
            what,
            problem: error.to_string(),
        });
    }
    // Host and scheme mean nothing here: the same connection is used.
    let uri: Uri = request
        .url
        .parse()
        .map_err(|_| Error::Url("a ping's url is none".to_owned()))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let exchange =
        connector.exchange_at_root(what, (method, path, HeaderMap::new(), body), ANSWER_LEN_MAX);
    match timeout(limit, exchange).await {
        Ok(sent) => sent.map(drop),
        Err(_) => Err(Error::Timeout(what)),
    }
}
