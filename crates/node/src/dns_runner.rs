//! Carries out what the brain wants of the machine's resolver, away from its loop: other programs are asked, and may take
//! their time. What is wanted last is what is done next.

use std::sync::Arc;
use std::time::Duration;

use backend::{Event, Target};
use host::{Applied, DnsConfig, DnsConfigurator, SystemDns};
use rt::Task;
use tokio::sync::{mpsc, oneshot, watch};

use crate::brain::{BrainHandle, Differences};

/// How long settings that could not be read are left alone.
const RETRY: Duration = Duration::from_secs(5);

/// A question what of the resolver is not like this.
type Question = (DnsConfig, oneshot::Sender<Differences>);

/// Asks what of the machine's resolver is not as somebody wants it.
#[derive(Clone)]
pub(crate) struct DnsComparer(mpsc::Sender<Question>);

impl DnsComparer {
    pub(crate) async fn compare(&self, want: DnsConfig) -> Differences {
        let (answer, answered) = oneshot::channel();
        let gone = || "the daemon is shutting down".to_owned();
        self.0.send((want, answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// The brain's end of the runner.
pub(crate) struct DnsRunner {
    comparer: DnsComparer,
    wanted: watch::Sender<Option<DnsConfig>>,
    stop: oneshot::Sender<()>,
    task: Task,
}

impl DnsRunner {
    pub(crate) fn start(dns: Box<dyn DnsConfigurator>, brain: BrainHandle) -> Self {
        let (wanted, wants) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let (questions, asked) = mpsc::channel(1);
        let runner = Runner {
            dns,
            brain,
            system: None,
        };
        Self {
            comparer: DnsComparer(questions),
            wanted,
            stop,
            task: Task::spawn("system dns", runner.run(wants, asked, stopped)),
        }
    }

    pub(crate) fn comparer(&self) -> DnsComparer {
        self.comparer.clone()
    }

    /// Asks for this from now on. The brain hears what became of it.
    pub(crate) fn apply(&self, want: DnsConfig) {
        self.wanted.send_replace(Some(want));
    }

    /// Removes what is ours, and waits until that is done.
    pub(crate) async fn stop(self) {
        // The task may have ended with the brain.
        let _ = self.stop.send(());
        self.task.join().await;
    }
}

struct Runner {
    dns: Box<dyn DnsConfigurator>,
    brain: BrainHandle,
    /// What the brain knows of the machine's own resolver.
    system: Option<Result<Arc<SystemDns>, String>>,
}

impl Runner {
    async fn run(
        mut self,
        mut wants: watch::Receiver<Option<DnsConfig>>,
        mut asked: mpsc::Receiver<Question>,
        mut stop: oneshot::Receiver<()>,
    ) {
        self.look().await;
        loop {
            let is_unread = matches!(self.system, Some(Err(_)));
            tokio::select! {
                biased;
                _ = &mut stop => break,
                Some((want, answer)) = asked.recv() => {
                    // The client may have hung up.
                    let _ = answer.send(self.dns.differences(&want).await);
                }
                changed = wants.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let want = wants.borrow_and_update().clone();
                    if let Some(want) = want {
                        let applied = self.dns.apply(&want).await;
                        self.report(Event::Applied { target: Target::Dns, applied }).await;
                    }
                }
                () = rt::sleep_until(rt::now() + RETRY), if is_unread => self.look().await,
                () = self.dns.drifted() => {
                    // What is wanted may follow from what the machine now says.
                    self.look().await;
                    self.report(Event::Drifted(Target::Dns)).await;
                }
            }
        }
        let Applied { failures, .. } = self.dns.cleanup().await;
        for failure in failures {
            tracing::warn!("restore the machine's DNS: {failure}");
        }
    }

    async fn look(&mut self) {
        let system = self.dns.system().await.map(Arc::new);
        if self.system.as_ref() != Some(&system) {
            self.system = Some(system.clone());
            self.report(Event::SystemDns(system)).await;
        }
    }

    async fn report(&mut self, event: Event) {
        self.brain.report(event).await;
    }
}
