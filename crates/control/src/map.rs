//! The long poll.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use keys::NodePublic;
use netmap::MapSession;
use tailcfg::{MapResponse, PeerChange, PingRequest};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use ts2021::{MAP_FRAME_LEN_MAX, MapFrames};

use crate::connection::{Connector, read_answer, routing_hint};
use crate::register::encode;
use crate::update::{MAP_PATH, NodeInfo};
use crate::{C2nRouter, Error, Event, MESSAGE_LEN_MAX, decode_message, ping};

const WHAT: &str = "map stream";
/// The longest pause that a server may order.
const SLEEP_MAX: Duration = Duration::from_secs(300);
/// Pings that are answered at once.
const PINGS_MAX: usize = 8;
const ERROR_LEN_MAX: usize = 64 << 10;

/// What outlives one stream.
#[derive(Debug)]
pub(crate) struct Memory {
    last_ping: String,
    last_page: String,
    pings: Vec<rt::Task>,
    /// What peers tell us themselves.
    learned: mpsc::Receiver<PeerChange>,
}

impl Memory {
    pub(crate) fn new(learned: mpsc::Receiver<PeerChange>) -> Self {
        Self {
            last_ping: String::new(),
            last_page: String::new(),
            pings: Vec::new(),
            learned,
        }
    }
}

/// One stream, from its request to its end.
pub(crate) struct Poll<'a> {
    pub(crate) connector: &'a Arc<Connector>,
    pub(crate) c2n: &'a C2nRouter,
    pub(crate) silence_max: Duration,
    pub(crate) events: &'a mpsc::Sender<Event>,
    pub(crate) memory: &'a mut Memory,
    /// Set when the first message has come.
    pub(crate) heard: bool,
    /// Counted up when the first message has come.
    pub(crate) again: Option<&'a watch::Sender<u64>>,
}

impl Poll<'_> {
    /// Runs until something goes wrong; streams have no good end.
    pub(crate) async fn run(&mut self, node_key: NodePublic, info: &NodeInfo) -> Error {
        match self.open(node_key, info).await {
            Ok(body) => self.follow(body).await,
            Err(error) => error,
        }
    }

    async fn open(&self, node_key: NodePublic, info: &NodeInfo) -> Result<Incoming, Error> {
        let body = encode(WHAT, &info.map_request(node_key, true))?;
        let headers = routing_hint(&[node_key]);
        let request = self
            .connector
            .send(WHAT, Method::POST, MAP_PATH, headers, body);
        let response = self.in_time(request).await?;
        if response.status() == http::StatusCode::OK {
            return Ok(response.into_body());
        }
        let answer = self
            .in_time(read_answer(WHAT, response, ERROR_LEN_MAX))
            .await?;
        answer.expect_ok(WHAT)?;
        Err(Error::Ended)
    }

    /// Silence means that the stream is dead; time in which we are busy does not count.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        timeout(self.silence_max, work)
            .await
            .unwrap_or(Err(Error::Silent(self.silence_max)))
    }

    async fn follow(&mut self, mut body: Incoming) -> Error {
        let mut frames = MapFrames::new(MAP_FRAME_LEN_MAX);
        let mut session = MapSession::new();
        let mut keep_alive = Vec::new();
        let mut pending = Bytes::new();
        let silence_max = self.silence_max;
        // Time in which we are busy does not count as silence.
        let mut heard_at = rt::now();
        loop {
            let learned = &mut self.memory.learned;
            let next = async {
                tokio::select! {
                    biased;
                    data = next_message(&mut body, &mut frames, &mut pending) => data.map(Next::Message),
                    Some(change) = learned.recv() => Ok(Next::Learned(change)),
                }
            };
            // What peers say is no sign of life of the server.
            let silence = silence_max.saturating_sub(rt::now().since(heard_at));
            let outcome = timeout(silence, next).await;
            let data = match outcome {
                Ok(Ok(Next::Message(data))) => data,
                Ok(Ok(Next::Learned(change))) => {
                    if let Some(change) = session.apply_learned(change, rt::wall()) {
                        self.report(Event::Map(change)).await;
                    }
                    continue;
                }
                Ok(Err(error)) => return error,
                Err(_) => return Error::Silent(silence_max),
            };
            let taken = async {
                if !keep_alive.is_empty() && data == keep_alive {
                    self.heard = true;
                    self.report(Event::MapHeard).await;
                    return Ok(());
                }
                let message = decode_message(&data, MESSAGE_LEN_MAX).map_err(Error::Message)?;
                if message
                    == (MapResponse {
                        keep_alive: true,
                        ..MapResponse::default()
                    })
                {
                    // The next one can be told by its bytes.
                    keep_alive.clone_from(&data);
                }
                self.take(&mut session, message).await
            };
            if let Err(error) = taken.await {
                return error;
            }
            heard_at = rt::now();
        }
    }

    /// The order is the originals': orders first, then what concerns the user, then the map.
    async fn take(
        &mut self,
        session: &mut MapSession,
        mut message: MapResponse,
    ) -> Result<(), Error> {
        let ordered = message
            .debug
            .take()
            .map_or(0.0, |debug| debug.sleep_seconds);
        if let Ok(pause) = Duration::try_from_secs_f64(ordered)
            && !pause.is_zero()
        {
            tracing::info!("the control server orders a pause of {} s", pause.as_secs());
            sleep(pause.min(SLEEP_MAX)).await;
        }
        if let Some(request) = message.ping_request.take() {
            self.ping(*request).await;
        }
        let page = std::mem::take(&mut message.pop_browser_url);
        if !page.is_empty() && page != self.memory.last_page {
            self.memory.last_page.clone_from(&page);
            if self.connector.url.may_show(&page) {
                self.report(Event::BrowseTo(page)).await;
            } else {
                tracing::warn!(
                    "the control server wants an untrustworthy page shown: `{}`",
                    page.escape_debug()
                );
            }
        }
        if let Some(plan) = message.control_dial_plan.take() {
            self.connector.store_plan(&plan);
        }
        if let Some(version) = message.client_version.take() {
            self.report(Event::ClientVersion(*version)).await;
        }
        let change = session.apply(message, rt::wall()).map_err(Error::Map)?;
        self.heard = true;
        if let Some(again) = self.again.take() {
            again.send_modify(|count| *count += 1);
        }
        self.report(change.map_or(Event::MapHeard, Event::Map))
            .await;
        Ok(())
    }

    /// Servers repeat a ping until they hear the answer; only the first counts.
    async fn ping(&mut self, request: PingRequest) {
        if request.url.is_empty() || request.url == self.memory.last_ping {
            return;
        }
        self.memory.last_ping.clone_from(&request.url);
        if !ping::is_ours(&request) {
            self.report(Event::Ping(Box::new(request))).await;
            return;
        }
        self.memory.pings.retain(|task| !task.is_finished());
        if self.memory.pings.len() >= PINGS_MAX {
            tracing::warn!(
                "leaving out a ping of the control server: {PINGS_MAX} are being answered"
            );
            return;
        }
        let answer = ping::answer(Arc::clone(self.connector), self.c2n.clone(), request);
        self.memory
            .pings
            .push(rt::Task::spawn_fallible("control ping", answer));
    }

    async fn report(&self, event: Event) {
        // A node that is gone needs no news.
        let _ = self.events.send(event).await;
    }
}

/// What comes next: from the server, or from a peer.
enum Next {
    Message(Vec<u8>),
    Learned(PeerChange),
}

/// The next message.
async fn next_message(
    body: &mut Incoming,
    frames: &mut MapFrames,
    pending: &mut Bytes,
) -> Result<Vec<u8>, Error> {
    loop {
        let mut input: &[u8] = pending;
        let frame = frames.next_frame(&mut input).map_err(Error::Frame)?;
        let used = pending.len() - input.len();
        pending.advance(used);
        if let Some(frame) = frame {
            return Ok(frame);
        }
        *pending = match body.frame().await {
            None => return Err(Error::Ended),
            Some(Err(source)) => return Err(Error::Connection { what: WHAT, source }),
            // Trailers carry nothing.
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
    }
}
