//! The administrator's side: the functions, and their JSON over a unix socket.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /auth-keys` | [`NewAuthKey`] | [`AuthKeyInfo`] with the key |
//! | `GET /auth-keys` | | list of [`AuthKeyInfo`] |
//! | `POST /auth-keys/{id}/expire` | | |
//! | `GET /nodes` | | list of [`NodeInfo`] |
//! | `POST /nodes/{number}/expire` | | |
//! | `DELETE /nodes/{number}` | | |
//! | `GET`, `PUT /filter` | list of `tailcfg.FilterRule` | |
//! | `GET`, `PUT /derp-map` | `tailcfg.DERPMap` | |
//!
//! An error is a status and a text. Only the owner of the socket can connect.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tailcfg::{DerpMap, FilterRule, NodeId};
use transport::server::{Body, empty, full, text};

use crate::state::{Matters, State, go_now};
use crate::tailnet::{AuthKeyInfo, NewAuthKey, NodeInfo, Refused};

/// The longest request body that is read, in bytes.
const BODY_LEN_MAX: usize = 1 << 20;

/// What an administrator may do. All changes reach the nodes at once.
#[derive(Debug, Clone)]
pub struct Admin {
    state: Arc<State>,
}

impl Admin {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    /// Makes a key that lets machines in. Its text is in this answer only.
    ///
    /// # Errors
    /// When a tag is none.
    pub async fn create_auth_key(&self, new: NewAuthKey) -> Result<AuthKeyInfo, Refused> {
        self.state
            .change(Matters::Now, |tailnet| {
                tailnet.create_auth_key(new, go_now(), &mut rt::OsRng)
            })
            .await
    }

    /// All keys.
    #[must_use]
    pub fn auth_keys(&self) -> Vec<AuthKeyInfo> {
        self.state.read(crate::tailnet::Tailnet::auth_keys)
    }

    /// Ends a key's life. Nodes that came in by it stay.
    ///
    /// # Errors
    /// When there is no such key.
    pub async fn expire_auth_key(&self, id: &str) -> Result<(), Refused> {
        self.state
            .change(Matters::Now, |tailnet| {
                tailnet.expire_auth_key(id, go_now())
            })
            .await
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.state.read(crate::tailnet::Tailnet::nodes)
    }

    /// Expires a node's key: it must register again.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn expire_node(&self, id: NodeId) -> Result<(), Refused> {
        self.state
            .change(Matters::Now, |tailnet| tailnet.expire_node(id, go_now()))
            .await
    }

    /// Removes a node.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn remove_node(&self, id: NodeId) -> Result<(), Refused> {
        self.state
            .change(Matters::Now, |tailnet| tailnet.remove_node(id))
            .await?;
        self.state.end_stream(id);
        Ok(())
    }

    /// The filter rules.
    #[must_use]
    pub fn filter(&self) -> Arc<Vec<FilterRule>> {
        self.state.read(|tailnet| Arc::clone(tailnet.filter()))
    }

    /// Sets the filter rules, the same for all nodes. No rule at all means that nobody may talk to anybody.
    pub async fn set_filter(&self, rules: Vec<FilterRule>) {
        self.state
            .change(Matters::Now, |tailnet| tailnet.set_filter(rules))
            .await;
    }

    /// The relay map.
    #[must_use]
    pub fn derp_map(&self) -> Arc<DerpMap> {
        self.state.read(|tailnet| Arc::clone(tailnet.derp_map()))
    }

    /// Sets the relay map until the server ends; it starts with that of its configuration again.
    pub async fn set_derp_map(&self, map: DerpMap) {
        self.state
            .change(Matters::Never, |tailnet| tailnet.set_derp_map(map))
            .await;
    }

    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        self.route(request)
            .await
            .unwrap_or_else(|failure| failure.response())
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (&method, parts.as_slice()) {
            (&Method::POST, ["auth-keys"]) => {
                json(&self.create_auth_key(read(request).await?).await?)
            }
            (&Method::GET, ["auth-keys"]) => json(&self.auth_keys()),
            (&Method::POST, ["auth-keys", id, "expire"]) => {
                self.expire_auth_key(id).await?;
                Ok(done())
            }
            (&Method::GET, ["nodes"]) => json(&self.nodes()),
            (&Method::POST, ["nodes", id, "expire"]) => {
                self.expire_node(number(id)?).await?;
                Ok(done())
            }
            (&Method::DELETE, ["nodes", id]) => {
                self.remove_node(number(id)?).await?;
                Ok(done())
            }
            (&Method::GET, ["filter"]) => json(&*self.filter()),
            (&Method::PUT, ["filter"]) => {
                self.set_filter(read(request).await?).await;
                Ok(done())
            }
            (&Method::GET, ["derp-map"]) => json(&*self.derp_map()),
            (&Method::PUT, ["derp-map"]) => {
                self.set_derp_map(read(request).await?).await;
                Ok(done())
            }
            _ => Err(Failure::NotFound),
        }
    }
}

enum Failure {
    NotFound,
    TooLarge,
    Bad(String),
    Refused(Refused),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl Failure {
    fn response(self) -> Response<Body> {
        match self {
            Self::NotFound => text(StatusCode::NOT_FOUND, "not found"),
            Self::TooLarge => text(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large"),
            Self::Bad(why) => text(StatusCode::BAD_REQUEST, why),
            Self::Refused(refused @ Refused::Invalid(_)) => {
                text(StatusCode::BAD_REQUEST, refused.to_string())
            }
            Self::Refused(refused) => text(StatusCode::NOT_FOUND, refused.to_string()),
        }
    }
}

fn number(text: &str) -> Result<NodeId, Failure> {
    text.parse()
        .map_err(|_| Failure::Bad(format!("`{text}` is no number of a node")))
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Failure> {
    let body = Limited::new(request.into_body(), BODY_LEN_MAX)
        .collect()
        .await;
    let body: Bytes = body.map_err(|_| Failure::TooLarge)?.to_bytes();
    serde_json::from_slice(&body)
        .map_err(|error| Failure::Bad(format!("decode the request: {error}")))
}

fn done() -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<Response<Body>, Failure> {
    let json = tailcfg::go::to_vec(value).map_err(|error| Failure::Bad(error.to_string()))?;
    let mut response = Response::new(full(json));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
