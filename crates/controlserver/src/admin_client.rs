//! The administrator's side from another process.

use std::fmt;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tailcfg::{DerpMap, FilterRule, NodeId};
use tokio::net::UnixStream;

use crate::tailnet::{AuthKeyInfo, NewAuthKey, NodeInfo};

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

    /// Expires a node's key.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn expire_node(&self, id: NodeId) -> Result<(), AdminError> {
        let path = format!("/nodes/{id}/expire");
        self.order(Method::POST, &path, None::<&()>).await
    }

    /// Removes a node.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn remove_node(&self, id: NodeId) -> Result<(), AdminError> {
        self.order(Method::DELETE, &format!("/nodes/{id}"), None::<&()>)
            .await
    }

    /// Sets the filter rules.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn set_filter(&self, rules: &[FilterRule]) -> Result<(), AdminError> {
        self.order(Method::PUT, "/filter", Some(rules)).await
    }

    /// Sets the relay map.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn set_derp_map(&self, map: &DerpMap) -> Result<(), AdminError> {
        self.order(Method::PUT, "/derp-map", Some(map)).await
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
