//! Does in the world what a measurement of our network asks for.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use derp::DerpMap;
use netcheck::{Action, Family, ProbeId};
use rt::Task;
use tokio::time::timeout;

use crate::mailbox::Mailbox;
use crate::relays::Relays;
use crate::sockets::Sockets;

/// What a measurement learns.
#[derive(Debug)]
pub(crate) enum ProbeAnswer {
    Sent(Family, bool),
    Resolved(ProbeId, Option<IpAddr>),
    Https(u16, Option<(Duration, IpAddr)>),
}

/// One step may take this long; the measurement as a whole ends sooner.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// The steps under way.
pub(crate) struct Prober {
    relays: Arc<dyn Relays>,
    mailbox: Arc<Mailbox>,
    steps: Vec<Task>,
}

impl Prober {
    pub(crate) fn new(relays: Arc<dyn Relays>, mailbox: Arc<Mailbox>) -> Self {
        Self {
            relays,
            mailbox,
            steps: Vec::new(),
        }
    }

    pub(crate) fn act(&mut self, action: Action, map: Option<&DerpMap>, sockets: &Sockets) {
        self.steps.retain(|step| !step.is_finished());
        match action {
            Action::Send {
                family,
                to,
                datagram,
            } => {
                let ok = sockets.send_one(to, &datagram);
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

    fn answer(&self, answer: ProbeAnswer) {
        self.mailbox.post(|inbox| inbox.probes.push_back(answer));
    }
}
