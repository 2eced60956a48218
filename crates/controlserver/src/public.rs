//! What anybody may ask over plain HTTP: our key, and the upgrade into Noise.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use keys::{ChallengePrivate, MachinePublic};
use tailcfg::OverTlsPublicKeyResponse;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use transport::Stream;
use transport::server::{Body, empty, full, text};
use ts2021::{HANDSHAKE_HEADER, HandshakeError, Responder, UPGRADE_PATH, UPGRADE_PROTOCOL};

use crate::machine;
use crate::noise::NoiseStream;
use crate::page::{self, LOGIN_PATH};
use crate::state::State;

/// Noise connections at once.
const CONNECTIONS_MAX: usize = 8192;
/// Clients from this version on understand an early payload.
const EARLY_VERSION: u16 = 49;

/// The public side of the server.
#[derive(Debug)]
pub(crate) struct Public {
    state: Arc<State>,
    places: Arc<Semaphore>,
    /// Connections that have been upgraded; they end with this.
    connections: Mutex<Vec<rt::Task>>,
}

impl Public {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self {
            state,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            connections: Mutex::default(),
        }
    }

    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match (request.method(), request.uri().path()) {
            (_, path) if path.starts_with(LOGIN_PATH) => page::answer(&self.state, request).await,
            (&Method::GET, "/key") => self.key(),
            (&Method::POST, UPGRADE_PATH) => self.upgrade(request),
            (&Method::GET, UPGRADE_PATH) => text(
                StatusCode::NOT_IMPLEMENTED,
                "WebSocket is not built into this control server",
            ),
            (&Method::GET, "/generate_204") => status(StatusCode::NO_CONTENT),
            (&Method::GET | &Method::HEAD, "/health" | "/") => text(StatusCode::OK, "ok\n"),
            _ => text(StatusCode::NOT_FOUND, "not found"),
        }
    }

    fn key(&self) -> Response<Body> {
        let public_key = self.state.read(|tailnet| tailnet.noise_key().public());
        let answer = OverTlsPublicKeyResponse {
            legacy_public_key: MachinePublic::ZERO,
            public_key,
        };
        match tailcfg::go::to_vec(&answer) {
            Ok(json) => {
                let mut response = Response::new(full(json));
                let kind = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    fn upgrade(&self, mut request: Request<Incoming>) -> Response<Body> {
        let initiation = match initiation(request.headers()) {
            Ok(initiation) => initiation,
            Err(error) => return text(StatusCode::BAD_REQUEST, error),
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "too many connections");
        };
        let opened = self
            .state
            .read(|tailnet| Responder::open(tailnet.noise_key(), &initiation));
        let on_upgrade = hyper::upgrade::on(&mut request);
        let talk = talk(Arc::clone(&self.state), on_upgrade, opened, place);
        self.keep(rt::Task::spawn("control connection", talk));
        let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static(UPGRADE_PROTOCOL));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response
    }

    fn keep(&self, connection: rt::Task) {
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        connections.retain(|task| !task.is_finished());
        connections.push(connection);
    }

    /// Ends all connections.
    pub(crate) fn close(&self) {
        self.connections
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clear();
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

fn initiation(headers: &HeaderMap) -> Result<Vec<u8>, &'static str> {
    let upgrade = headers
        .get(header::UPGRADE)
        .and_then(|value| value.to_str().ok());
    if !upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case(UPGRADE_PROTOCOL)) {
        return Err("unknown or missing next protocol");
    }
    let text = headers
        .get(HANDSHAKE_HEADER)
        .ok_or("missing Tailscale handshake header")?;
    STANDARD
        .decode(text)
        .map_err(|_| "invalid Tailscale handshake header")
}

/// One connection from its upgrade to its end.
async fn talk(
    state: Arc<State>,
    on_upgrade: OnUpgrade,
    opened: Result<Responder, HandshakeError>,
    _place: OwnedSemaphorePermit,
) {
    let stream = match on_upgrade.await {
        Ok(upgraded) => Stream::from(upgraded),
        Err(error) => {
            tracing::debug!("upgrading a connection: {error}");
            return;
        }
    };
    match opened.and_then(|responder| {
        let version = responder.version();
        Ok((version, responder.respond(&mut rt::OsRng)?))
    }) {
        Ok((version, (session, response))) => {
            let machine = session.peer;
            let mut noise = NoiseStream::new(stream, session, &response);
            if version >= EARLY_VERSION {
                let challenge = ChallengePrivate::generate(&mut rt::OsRng).public();
                if noise.push(&ts2021::encode_early(&challenge)).is_err() {
                    return;
                }
            }
            machine::serve(state, machine, noise).await;
        }
        Err(error) => {
            tracing::debug!("noise handshake: {error}");
            refuse(stream, &error).await;
        }
    }
}

/// Says why, if the initiation was readable at all. To a client with the wrong idea of our key nothing can be said.
async fn refuse(mut stream: Stream, error: &HandshakeError) {
    if matches!(error, HandshakeError::Malformed { .. }) {
        let frame = ts2021::error_frame(&error.to_string());
        // The client may be gone.
        let _ = stream.write_all(&frame).await;
        let _ = stream.shutdown().await;
    }
}
