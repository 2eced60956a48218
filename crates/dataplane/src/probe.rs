//! Does in the world what a measurement of our network asks for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use derp::DerpMap;
use host::{Ecn, UdpBinder, UdpSocket, UdpTx, Until};
use netcheck::{Action, Family, Interfaces, ProbeId, stun};
use rt::Task;
use tokio::time::timeout;

use crate::mailbox::Mailbox;
use crate::relays::Relays;

/// What a measurement learns.
#[derive(Debug)]
pub(crate) enum ProbeAnswer {
    Stun(Vec<u8>),
    Sent(Family, bool),
    Resolved(ProbeId, Option<IpAddr>),
    Https(u16, Option<(Duration, IpAddr)>),
    Interfaces(Interfaces),
}

/// One step may take this long; the measurement as a whole ends sooner.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// STUN answers are short. What does not fit is none.
const BUFFER: usize = 2048;

/// The sockets, and the steps under way.
pub(crate) struct Prober {
    relays: Arc<dyn Relays>,
    mailbox: Arc<Mailbox>,
    v4: Option<Socket>,
    v6: Option<Socket>,
    steps: Vec<Task>,
}

struct Socket {
    udp: Arc<dyn UdpSocket>,
    _reader: Task,
}

impl Prober {
    /// Binds the sockets. A family without one is not measured.
    pub(crate) fn new(
        binder: &dyn UdpBinder,
        port: u16,
        relays: Arc<dyn Relays>,
        mailbox: Arc<Mailbox>,
    ) -> Self {
        let open = |v6: bool| {
            let bound = binder.bind(v6, port).or_else(|error| match port {
                0 => Err(error),
                _ => binder.bind(v6, 0),
            });
            let udp = match bound {
                Ok(udp) => udp,
                Err(error) => {
                    let family = if v6 { "IPv6" } else { "IPv4" };
                    tracing::info!("no {family} UDP socket: {error}");
                    return None;
                }
            };
            let reader = Task::spawn("stun reader", read(udp.clone(), mailbox.clone()));
            Some(Socket {
                udp,
                _reader: reader,
            })
        };
        let (v4, v6) = (open(false), open(true));
        let interfaces = Interfaces {
            v4: v4.is_some(),
            v6: v6.is_some(),
        };
        let answer = ProbeAnswer::Interfaces(interfaces);
        mailbox.post(|inbox| inbox.probes.push_back(answer));
        Self {
            relays,
            mailbox,
            v4,
            v6,
            steps: Vec::new(),
        }
    }

    pub(crate) fn act(&mut self, action: Action, map: Option<&DerpMap>) {
        self.steps.retain(|step| !step.is_finished());
        match action {
            Action::Send {
                family,
                to,
                datagram,
            } => {
                let ok = self.send(family, to, &datagram);
                self.answer(ProbeAnswer::Sent(family, ok));
            }
            Action::Resolve {
                probe,
                host,
                family,
            } => {
                let (relays, mailbox) = (self.relays.clone(), self.mailbox.clone());
                self.steps.push(Task::spawn("relay lookup", async move {
                    let found = timeout(STEP_TIMEOUT, relays.resolve(host, family == Family::V6));
                    let answer = ProbeAnswer::Resolved(probe, found.await.ok().flatten());
                    mailbox.post(|inbox| inbox.probes.push_back(answer));
                }));
            }
            Action::MeasureHttps { regions } => {
                for id in regions {
                    match map.and_then(|map| map.region(id)).cloned() {
                        Some(region) => self.measure_https(region),
                        None => self.answer(ProbeAnswer::Https(id, None)),
                    }
                }
            }
        }
    }

    fn measure_https(&mut self, region: derp::Region) {
        let (relays, mailbox) = (self.relays.clone(), self.mailbox.clone());
        self.steps.push(Task::spawn("relay latency", async move {
            let id = region.id;
            let measured = timeout(STEP_TIMEOUT, relays.latency(region)).await;
            let answer = ProbeAnswer::Https(id, measured.ok().and_then(Result::ok));
            mailbox.post(|inbox| inbox.probes.push_back(answer));
        }));
    }

    fn send(&self, family: Family, to: SocketAddr, datagram: &[u8]) -> bool {
        let socket = match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        let Some(socket) = socket else {
            return false;
        };
        let train = UdpTx {
            to,
            src: None,
            stride: u16::try_from(datagram.len()).unwrap_or(u16::MAX),
            ecn: Ecn::default(),
            data: datagram,
        };
        let sent = socket.udp.send(&[train]);
        sent.done == 1 && sent.lost.unreachable == 0
    }

    fn answer(&self, answer: ProbeAnswer) {
        self.mailbox.post(|inbox| inbox.probes.push_back(answer));
    }
}

/// Passes on what may be an answer. Anything else has no receiver on these sockets.
async fn read(udp: Arc<dyn UdpSocket>, mailbox: Arc<Mailbox>) {
    let mut buffer = vec![0; BUFFER];
    let mut batch = Vec::new();
    loop {
        if let Err(error) = udp.readable().await {
            tracing::debug!("stun socket: {error}");
            return;
        }
        batch.clear();
        if let Err(error) = udp.recv(&mut buffer, &mut batch, Until::Now) {
            tracing::debug!("stun socket: {error}");
            // A refused datagram is reported here too; what is broken for good must not spin.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        }
        for datagrams in &batch {
            let (start, len) = (datagrams.off as usize, datagrams.len as usize);
            let stride = usize::from(datagrams.stride).max(1);
            let train = buffer.get(start..start + len).unwrap_or_default();
            for datagram in train.chunks(stride).filter(|d| stun::is_stun(d)) {
                let answer = ProbeAnswer::Stun(datagram.to_vec());
                mailbox.post(|inbox| {
                    // Only what was asked for is answered; a flood is none of that.
                    if inbox.probes.len() < 1024 {
                        inbox.probes.push_back(answer);
                    }
                });
            }
        }
    }
}
