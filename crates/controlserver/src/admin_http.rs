//! The administrator's functions as JSON over a unix socket.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /auth-keys` | [`NewAuthKey`](crate::NewAuthKey) | [`AuthKeyInfo`](crate::AuthKeyInfo) with the key |
//! | `GET /auth-keys` | | list of [`AuthKeyInfo`](crate::AuthKeyInfo) |
//! | `POST /auth-keys/{id}/expire` | | |
//! | `GET /logins` | | list of [`LoginInfo`](crate::LoginInfo) |
//! | `POST /logins/{id}/approve` | [`Approval`](crate::Approval) | |
//! | `POST /logins/{id}/refuse` | | |
//! | `GET /nodes` | | list of [`NodeInfo`](crate::NodeInfo) |
//! | `POST /nodes` | `{"count": n}` | numbers of new nodes that exist on paper only |
//! | `DELETE /nodes/{number}` | | |
//! | `POST /nodes/{number}/expire` | | |
//! | `POST /nodes/{number}/disconnect` | | |
//! | `PUT /nodes/{number}/expiry` | time, zero is never | |
//! | `PUT /nodes/{number}/approved`, `…/online`, `…/jailed` | boolean | |
//! | `PUT /nodes/{number}/name` | text | |
//! | `PUT /nodes/{number}/tags`, `…/routes` | list of texts | |
//! | `PUT /nodes/{number}/attributes` | `tailcfg.NodeCapMap` | |
//! | `POST /nodes/{number}/inject` | `tailcfg.MapResponse`, passed on as it is | |
//! | `POST /nodes/{number}/ping` | [`PingQuestion`](crate::PingQuestion) | `tailcfg.PingResponse` |
//! | `POST /nodes/{number}/c2n` | [`C2nQuestion`](crate::C2nQuestion) | [`C2nAnswer`](crate::C2nAnswer) |
//! | `GET`, `PUT /filter` | list of `tailcfg.FilterRule` | |
//! | `GET`, `PUT /dns` | `tailcfg.DNSConfig` | |
//! | `GET`, `PUT /derp-map` | `tailcfg.DERPMap` | |
//! | `GET`, `PUT /settings` | [`Settings`](crate::Settings) | |
//!
//! An error is a status and a text. Only the owner of the socket can connect.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tailcfg::NodeId;
use transport::server::{Body, empty, full, text};

use crate::admin::{Admin, AskError};
use crate::tailnet::Refused;

/// The longest request body that is read, in bytes: a map of ten thousand nodes can be injected.
const BODY_LEN_MAX: usize = 32 << 20;

/// The request for nodes that exist on paper only.
#[derive(Debug, serde::Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddNodes {
    pub(crate) count: u32,
}

/// Answers one request of the socket.
pub(crate) async fn answer(admin: &Admin, request: Request<Incoming>) -> Response<Body> {
    route(admin, request)
        .await
        .unwrap_or_else(|failure| failure.response())
}

async fn route(admin: &Admin, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match (&method, parts.as_slice()) {
        (&Method::POST, ["auth-keys"]) => json(&admin.create_auth_key(read(request).await?).await?),
        (&Method::GET, ["auth-keys"]) => json(&admin.auth_keys()),
        (&Method::POST, ["auth-keys", id, "expire"]) => done(admin.expire_auth_key(id).await?),
        (&Method::GET, ["logins"]) => json(&admin.logins()),
        (&Method::POST, ["logins", id, "approve"]) => {
            done(admin.approve_login(id, read(request).await?).await?)
        }
        (&Method::POST, ["logins", id, "refuse"]) => done(admin.refuse_login(id).await?),
        (&Method::GET, ["nodes"]) => json(&admin.nodes()),
        (&Method::POST, ["nodes"]) => {
            let AddNodes { count } = read(request).await?;
            json(&admin.add_nodes(count).await?)
        }
        (&Method::DELETE, ["nodes", id]) => done(admin.remove_node(number(id)?).await?),
        (_, ["nodes", id, order]) => route_node(admin, number(id)?, order, request).await,
        (&Method::GET, ["filter"]) => json(&*admin.filter()),
        (&Method::PUT, ["filter"]) => {
            admin.set_filter(read(request).await?).await;
            done(())
        }
        (&Method::GET, ["dns"]) => json(&*admin.dns()),
        (&Method::PUT, ["dns"]) => {
            admin.set_dns(read(request).await?).await;
            done(())
        }
        (&Method::GET, ["derp-map"]) => json(&*admin.derp_map()),
        (&Method::PUT, ["derp-map"]) => {
            admin.set_derp_map(read(request).await?).await;
            done(())
        }
        (&Method::GET, ["settings"]) => json(&admin.settings()),
        (&Method::PUT, ["settings"]) => {
            admin.set_settings(read(request).await?).await;
            done(())
        }
        _ => Err(Failure::NotFound),
    }
}

async fn route_node(
    admin: &Admin,
    id: NodeId,
    order: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    match (request.method(), order) {
        (&Method::POST, "expire") => done(admin.expire_node(id).await?),
        (&Method::POST, "disconnect") => done(admin.disconnect(id)?),
        (&Method::PUT, "expiry") => done(admin.set_key_expiry(id, read(request).await?).await?),
        (&Method::PUT, "approved") => done(admin.set_approved(id, read(request).await?).await?),
        (&Method::PUT, "online") => done(admin.set_online(id, read(request).await?).await?),
        (&Method::PUT, "jailed") => done(admin.set_jailed(id, read(request).await?).await?),
        (&Method::PUT, "name") => {
            let name: String = read(request).await?;
            done(admin.set_name(id, &name).await?)
        }
        (&Method::PUT, "tags") => done(admin.set_tags(id, read(request).await?).await?),
        (&Method::PUT, "routes") => done(admin.set_routes(id, read(request).await?).await?),
        (&Method::PUT, "attributes") => done(admin.set_attributes(id, read(request).await?).await?),
        (&Method::POST, "inject") => {
            let body = read_body(request).await?;
            done(admin.inject(id, body)?)
        }
        (&Method::POST, "ping") => json(&admin.ping(id, read(request).await?).await?),
        (&Method::POST, "c2n") => {
            let question = read(request).await?;
            json(&admin.c2n(id, &question).await?)
        }
        _ => Err(Failure::NotFound),
    }
}

enum Failure {
    NotFound,
    TooLarge,
    Bad(String),
    Refused(Refused),
    Ask(AskError),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        Self::Ask(error)
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
            Self::Ask(error) => {
                let status = match error {
                    AskError::NoSuchNode => StatusCode::NOT_FOUND,
                    AskError::NotConnected | AskError::Behind => StatusCode::CONFLICT,
                    AskError::Silent => StatusCode::GATEWAY_TIMEOUT,
                    AskError::Invalid(_) => StatusCode::BAD_REQUEST,
                };
                text(status, error.to_string())
            }
        }
    }
}

fn number(text: &str) -> Result<NodeId, Failure> {
    text.parse()
        .map_err(|_| Failure::Bad(format!("`{text}` is no number of a node")))
}

async fn read_body(request: Request<Incoming>) -> Result<Bytes, Failure> {
    let body = Limited::new(request.into_body(), BODY_LEN_MAX)
        .collect()
        .await;
    Ok(body.map_err(|_| Failure::TooLarge)?.to_bytes())
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Failure> {
    let body = read_body(request).await?;
    serde_json::from_slice(&body)
        .map_err(|error| Failure::Bad(format!("decode the request: {error}")))
}

/// An order has been carried out.
fn done((): ()) -> Result<Response<Body>, Failure> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<Response<Body>, Failure> {
    let json = tailcfg::go::to_vec(value).map_err(|error| Failure::Bad(error.to_string()))?;
    let mut response = Response::new(full(json));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
