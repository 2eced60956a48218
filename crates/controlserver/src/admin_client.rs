//! The administrator's side from another process.

use std::fmt;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tailcfg::go::GoTime;
use tailcfg::{CapMap, DerpMap, DnsConfig, FilterRule, NodeId, PingResponse};
use tokio::net::UnixStream;

use crate::admin::{C2nAnswer, C2nQuestion, PingQuestion};
use crate::admin_http::AddNodes;
use crate::tailnet::{Approval, AuthKeyInfo, LoginInfo, NewAuthKey, NodeInfo, Settings};

/// The longest answer that is read, in bytes.
const BODY_LEN_MAX: usize = 64 << 20;

/// Talks to the admin socket of a running server.
#[derive(Debug, Clone)]
pub struct AdminClient {
    socket: PathBuf,
}

/// Why the server did not do it.
#[derive(Debug)]
pub enum AdminError {
    /// Nobody answers at the socket.
    Connect(PathBuf, io::Error),
    /// The connection broke or spoke something else.
    Protocol(String),
    /// The server says no: status and text.
    Refused(u16, String),
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(path, error) => {
                write!(
                    f,
                    "connecting to the control server at `{}`: {error}",
                    path.display()
                )
            }
            Self::Protocol(why) => write!(f, "talking to the control server: {why}"),
            Self::Refused(_, why) => f.write_str(why),
        }
    }
}

impl std::error::Error for AdminError {}

impl AdminClient {
    /// A client of the server whose admin socket this is.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Makes a key that lets machines in. Its text is in this answer only.
    ///
    /// # Errors
    /// [`AdminError`], as for all functions here.
    pub async fn create_auth_key(&self, new: &NewAuthKey) -> Result<AuthKeyInfo, AdminError> {
        self.ask(Method::POST, "/auth-keys", Some(new)).await
    }

    /// All keys.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn auth_keys(&self) -> Result<Vec<AuthKeyInfo>, AdminError> {
        self.ask(Method::GET, "/auth-keys", None::<&()>).await
    }

    /// Ends a key's life.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn expire_auth_key(&self, id: &str) -> Result<(), AdminError> {
        let path = format!("/auth-keys/{id}/expire");
        self.order(Method::POST, &path, None::<&()>).await
    }

    /// All nodes.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, AdminError> {
        self.ask(Method::GET, "/nodes", None::<&()>).await
    }

    /// The machines that wait for a person to let them in.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn logins(&self) -> Result<Vec<LoginInfo>, AdminError> {
        self.ask(Method::GET, "/logins", None::<&()>).await
    }

    /// Lets a machine in that waits.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn approve_login(&self, id: &str, approval: &Approval) -> Result<(), AdminError> {
        let path = format!("/logins/{id}/approve");
        self.order(Method::POST, &path, Some(approval)).await
    }

    /// Tells a machine that waits that it may not come in.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn refuse_login(&self, id: &str) -> Result<(), AdminError> {
        let path = format!("/logins/{id}/refuse");
        self.order(Method::POST, &path, None::<&()>).await
    }

    /// Expires a node's key.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn expire_node(&self, id: NodeId) -> Result<(), AdminError> {
        self.order_node(id, Method::POST, "expire", None::<&()>)
            .await
    }

    /// Ends a node's map stream; the node comes back by itself.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn disconnect(&self, id: NodeId) -> Result<(), AdminError> {
        self.order_node(id, Method::POST, "disconnect", None::<&()>)
            .await
    }

    /// Sets when a node's key runs out; zero is never.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn set_key_expiry(&self, id: NodeId, expiry: GoTime) -> Result<(), AdminError> {
        self.order_node(id, Method::PUT, "expiry", Some(&expiry))
            .await
    }

    /// Lets a machine take part, or keeps it out.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn set_approved(&self, id: NodeId, approved: bool) -> Result<(), AdminError> {
        self.order_node(id, Method::PUT, "approved", Some(&approved))
            .await
    }

    /// Sets whether a node that exists on paper only counts as connected.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn set_online(&self, id: NodeId, online: bool) -> Result<(), AdminError> {
        self.order_node(id, Method::PUT, "online", Some(&online))
            .await
    }

    /// Gives a node a name that its host cannot change; an empty one takes it back.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn set_name(&self, id: NodeId, name: &str) -> Result<(), AdminError> {
        self.order_node(id, Method::PUT, "name", Some(name)).await
    }

    /// Sets a node's tags.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn set_tags(&self, id: NodeId, tags: &[String]) -> Result<(), AdminError> {
        self.order_node(id, Method::PUT, "tags", Some(tags)).await
    }

    /// Sets the subnets that are routed to a node while it advertises them.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn set_routes(&self, id: NodeId, routes: &[IpNet]) -> Result<(), AdminError> {
        self.order_node(id, Method::PUT, "routes", Some(routes))
            .await
    }

    /// Sets a node's attributes: the capabilities that it has for itself.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn set_attributes(&self, id: NodeId, attributes: &CapMap) -> Result<(), AdminError> {
        self.order_node(id, Method::PUT, "attributes", Some(attributes))
            .await
    }

    /// Says whether the others let nothing in that a node begins, whatever the rules are.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn set_jailed(&self, id: NodeId, jailed: bool) -> Result<(), AdminError> {
        self.order_node(id, Method::PUT, "jailed", Some(&jailed))
            .await
    }

    /// Puts a `MapResponse`, as it is, into a node's map stream.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn inject(&self, id: NodeId, message: &serde_json::Value) -> Result<(), AdminError> {
        self.order_node(id, Method::POST, "inject", Some(message))
            .await
    }

    /// Asks a node to ping somebody, or for a sign of life.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn ping(&self, id: NodeId, what: &PingQuestion) -> Result<PingResponse, AdminError> {
        self.ask(Method::POST, &format!("/nodes/{id}/ping"), Some(what))
            .await
    }

    /// Sends a node an HTTP request through the map stream.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn c2n(&self, id: NodeId, request: &C2nQuestion) -> Result<C2nAnswer, AdminError> {
        self.ask(Method::POST, &format!("/nodes/{id}/c2n"), Some(request))
            .await
    }

    /// Adds nodes that exist on paper only; their numbers.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn add_nodes(&self, count: u32) -> Result<Vec<NodeId>, AdminError> {
        self.ask(Method::POST, "/nodes", Some(&AddNodes { count }))
            .await
    }

    /// Removes a node.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn remove_node(&self, id: NodeId) -> Result<(), AdminError> {
        self.order(Method::DELETE, &format!("/nodes/{id}"), None::<&()>)
            .await
    }

    /// The filter rules.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn filter(&self) -> Result<Vec<FilterRule>, AdminError> {
        self.ask(Method::GET, "/filter", None::<&()>).await
    }

    /// Sets the filter rules.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn set_filter(&self, rules: &[FilterRule]) -> Result<(), AdminError> {
        self.order(Method::PUT, "/filter", Some(rules)).await
    }

    /// What is told about name resolution beside the names of nodes.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn dns(&self) -> Result<DnsConfig, AdminError> {
        self.ask(Method::GET, "/dns", None::<&()>).await
    }

    /// Sets what is told about name resolution beside the names of nodes.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn set_dns(&self, dns: &DnsConfig) -> Result<(), AdminError> {
        self.order(Method::PUT, "/dns", Some(dns)).await
    }

    /// The relay map.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn derp_map(&self) -> Result<DerpMap, AdminError> {
        self.ask(Method::GET, "/derp-map", None::<&()>).await
    }

    /// Sets the relay map.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn set_derp_map(&self, map: &DerpMap) -> Result<(), AdminError> {
        self.order(Method::PUT, "/derp-map", Some(map)).await
    }

    /// How nodes are treated.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn settings(&self) -> Result<Settings, AdminError> {
        self.ask(Method::GET, "/settings", None::<&()>).await
    }

    /// Sets how nodes are treated.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn set_settings(&self, settings: &Settings) -> Result<(), AdminError> {
        self.order(Method::PUT, "/settings", Some(settings)).await
    }

    async fn order_node<B: Serialize + ?Sized>(
        &self,
        id: NodeId,
        method: Method,
        order: &str,
        body: Option<&B>,
    ) -> Result<(), AdminError> {
        let path = format!("/nodes/{id}/{order}");
        self.order(method, &path, body).await
    }

    async fn order<B: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<(), AdminError> {
        self.send(method, path, body).await.map(|_| ())
    }

    async fn ask<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, AdminError> {
        let answer = self.send(method, path, body).await?;
        serde_json::from_slice(&answer).map_err(|error| AdminError::Protocol(error.to_string()))
    }

    async fn send<B: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Bytes, AdminError> {
        let protocol = |error: &dyn fmt::Display| AdminError::Protocol(error.to_string());
        let body = match body {
            Some(body) => tailcfg::go::to_vec(body).map_err(|error| protocol(&error))?,
            None => Vec::new(),
        };
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| AdminError::Connect(self.socket.clone(), error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| protocol(&error))?;
        let _connection = rt::Task::spawn("admin connection", async move {
            // A broken connection shows in the answer.
            let _ = connection.await;
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "control")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| protocol(&error))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| protocol(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_LEN_MAX)
            .collect()
            .await;
        let body = body.map_err(|error| protocol(&error))?.to_bytes();
        if !status.is_success() {
            let why = String::from_utf8_lossy(&body).trim().to_owned();
            return Err(AdminError::Refused(status.as_u16(), why));
        }
        Ok(body)
    }
}
