//! What nodes ask inside the Noise transport.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use keys::MachinePublic;
use tailcfg::{MapRequest, RegisterRequest, RegisterResponse};
use tokio::time::timeout;

use crate::calls::ANSWER_PATH;
use crate::noise::NoiseStream;
use crate::state::{Matters, State, go_now};
use crate::stream::{Compress, MachineBody, map_once, map_stream};
use crate::tailnet::Tailnet;

/// The longest request body that is read, in bytes.
const BODY_LEN_MAX: usize = 1 << 20;
/// The longest answer to a question that is read, in bytes: a profile of a daemon's memory, say.
const ANSWER_LEN_MAX: usize = 32 << 20;
/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests at once on one connection.
const STREAMS_MAX: u32 = 250;
/// Bytes of a request's header fields.
const HEADERS_LEN_MAX: u32 = 64 << 10;
/// A client that does not answer within this and the next is gone.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

type Answer = Response<MachineBody>;

/// Serves HTTP/2 to a machine until it goes.
pub(crate) async fn serve(state: Arc<State>, machine: MachinePublic, stream: NoiseStream) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(&state, machine, request).await) }
    });
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_LEN_MAX)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("connection of machine {machine}: {error}");
    }
}

async fn answer(state: &Arc<State>, machine: MachinePublic, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::POST, "/machine/register") => match read_json(request).await {
            Ok(request) => register(state, machine, request).await,
            Err(answer) => answer,
        },
        (&Method::POST, "/machine/map") => match read_json(request).await {
            Ok(request) => map(state, machine, request).await,
            Err(answer) => answer,
        },
        (&Method::HEAD | &Method::POST, path) if path.starts_with(ANSWER_PATH) => {
            take_answer(state, machine, request).await
        }
        (_, "/machine/register" | "/machine/map") => {
            text(StatusCode::METHOD_NOT_ALLOWED, "bad method")
        }
        (_, path) if path.starts_with("/machine/") => text(
            StatusCode::NOT_IMPLEMENTED,
            "not built into this control server",
        ),
        _ => text(StatusCode::NOT_FOUND, "not found"),
    }
}

/// Answers a registration; while a person is to decide about it, the node that came back from the page is held.
async fn register(state: &State, machine: MachinePublic, request: RegisterRequest) -> Answer {
    let key = request.node_key;
    let mut changes = state.snapshots();
    loop {
        let registered = state
            .change(Matters::Never, |tailnet| {
                tailnet.register(machine, request.clone(), go_now(), &mut rt::OsRng)
            })
            .await;
        if let Some(id) = registered.login {
            let url = state.login_url(&id);
            if request.followup != url {
                tracing::info!("{} of machine {machine} must log in at {url}", key.short());
                let response = RegisterResponse {
                    auth_url: url,
                    ..registered.response
                };
                return json(&response);
            }
            changes.mark_unchanged();
            while state.read(|tailnet| tailnet.is_undecided(&id)) {
                if changes.changed().await.is_err() {
                    return text(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
                }
            }
            continue;
        }
        // A refusal changes nothing and must not wear out the disk.
        if registered.response.error.is_empty() {
            state.persist().await;
        }
        if let Some(id) = registered.end_stream {
            state.end_stream(id);
        }
        match registered.response.error.as_str() {
            "" => tracing::info!("registered {} of machine {machine}", key.short()),
            error => tracing::info!("refused {} of machine {machine}: {error}", key.short()),
        }
        return json(&registered.response);
    }
}

/// A node's answer to a question of ours.
async fn take_answer(state: &State, machine: MachinePublic, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let token = path.strip_prefix(ANSWER_PATH).unwrap_or_default();
    match read_body(request, ANSWER_LEN_MAX).await {
        Ok(body) if state.calls().finish(token, &machine, body.clone()) => {
            let mut response = Response::new(full(Bytes::new()));
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Ok(_) => text(StatusCode::NOT_FOUND, "nobody waits for this answer"),
        Err(answer) => answer,
    }
}

async fn map(state: &Arc<State>, machine: MachinePublic, request: MapRequest) -> Answer {
    let id = state.read(|tailnet| tailnet.node_of(&request.node_key, &machine));
    let Some(id) = id else {
        return text(StatusCode::NOT_FOUND, "node not found");
    };
    let compress = match request.compress.as_str() {
        "" => Compress::Plain,
        "zstd" => Compress::Zstd,
        _ => return text(StatusCode::BAD_REQUEST, "unknown compression"),
    };
    let (keep_alive, is_stream, omit_peers) =
        (request.keep_alive, request.stream, request.omit_peers);
    // What is answered with success is on disk before: a node does not tell twice.
    if is_stream {
        // What else a stream request says about the node may be older than the last update.
        let offer = |tailnet: &mut Tailnet| tailnet.offer_disco(id, &request);
        if state.change(Matters::Never, offer).await {
            state.persist().await;
        }
        return Response::new(map_stream(state, id, compress, keep_alive));
    }
    if !request.read_only {
        let update = |tailnet: &mut Tailnet| tailnet.update(id, request);
        match state.change(Matters::Never, update).await {
            Ok(true) => state.persist().await,
            Ok(false) => {}
            Err(error) => return text(StatusCode::NOT_FOUND, &error.to_string()),
        }
    }
    if omit_peers {
        return Response::new(full(Bytes::new()));
    }
    match map_once(state, id, compress) {
        Some(bytes) => Response::new(full(bytes)),
        None => text(StatusCode::NOT_FOUND, "node not found"),
    }
}

async fn read_body(request: Request<Incoming>, max: usize) -> Result<Bytes, Answer> {
    let body = Limited::new(request.into_body(), max).collect();
    match timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(text(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the request is too large",
        )),
        Ok(Err(_)) => Err(text(StatusCode::BAD_REQUEST, "the request was cut off")),
        Err(_) => Err(text(
            StatusCode::REQUEST_TIMEOUT,
            "the request took too long",
        )),
    }
}

async fn read_json<T: for<'de> serde::Deserialize<'de>>(
    request: Request<Incoming>,
) -> Result<T, Answer> {
    let body = read_body(request, BODY_LEN_MAX).await?;
    serde_json::from_slice(&body).map_err(|error| {
        text(
            StatusCode::BAD_REQUEST,
            &format!("decode the request: {error}"),
        )
    })
}

fn full(bytes: Bytes) -> MachineBody {
    Full::new(bytes).boxed_unsync()
}

fn json<T: serde::Serialize>(value: &T) -> Answer {
    match tailcfg::go::to_vec(value) {
        Ok(bytes) => {
            let mut response = Response::new(full(bytes.into()));
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn text(status: StatusCode, text: &str) -> Answer {
    let mut response = Response::new(full(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
