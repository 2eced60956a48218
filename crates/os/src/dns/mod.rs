//! The machine's resolver: asks us for what is ours while we are on, and is as it was before when we are not.
//!
//! `choose` says through whom, from what there is on the machine; each of the others has one of them do it. All of it is
//! looked at again when `/etc/resolv.conf` changes or systemd-resolved starts anew, so that a machine may change its mind.

mod bus;
mod choose;
mod direct;
mod resolv_conf;
mod resolvconf;
mod resolved;
mod root;
mod watch;

#[cfg(test)]
mod tests;

use std::future::pending;
use std::time::Duration;

use futures_util::StreamExt as _;
use host::{Applied, BoxFuture, DnsConfig, DnsConfigurator, Instant, SystemDns};
use rt::RateLimit;
use zbus::MessageStream;

use self::bus::Bus;
use self::choose::{Facts, Manager, choose};
use self::direct::{Direct, RESOLV_CONF};
use self::resolv_conf::ResolvConf;
use self::root::Root;
use self::watch::Watch;
use crate::netlink::{Netlink, Protocol};

const ETC: &str = "/etc";
const NSSWITCH: &str = "/etc/nsswitch.conf";
/// Whoever writes the file once mostly writes it again at once.
const SETTLE: Duration = Duration::from_millis(100);
/// Somebody who writes it again and again wins for a while, but does not get all of the processor's time.
const BURST: u32 = 9;
const EVERY: Duration = Duration::from_secs(5);
/// How long a bus that has gone is left alone.
const RECONNECT: Duration = Duration::from_secs(10);

/// The resolver of a Linux machine.
#[derive(Debug)]
pub struct LinuxDns {
    /// Our device's name.
    device: String,
    root: Root,
    manager: Option<Manager>,
    /// What is not as it should be about who configures the resolver.
    trouble: Option<&'static str>,
    direct: Direct,
    bus: Option<Bus>,
    /// Tells when systemd-resolved starts anew.
    restarts: Option<MessageStream>,
    watch: Option<Watch>,
    limit: RateLimit,
    /// Since when somebody fights us, until it has been quiet for a while.
    fight: Option<Instant>,
    is_on: bool,
}

impl LinuxDns {
    /// A resolver that asks through `device`. It changes nothing yet. Must be called inside the async runtime.
    pub fn new(device: &str) -> Self {
        Self::at(device, Root::new("/"))
    }

    fn at(device: &str, root: Root) -> Self {
        let watch = Watch::start(&root.at(ETC), "resolv.conf");
        let watch = watch.inspect_err(|error| {
            tracing::warn!("changes of {RESOLV_CONF} will go unnoticed: {error}");
        });
        Self {
            device: device.to_owned(),
            direct: Direct::new(root.clone()),
            root,
            manager: None,
            trouble: None,
            bus: None,
            restarts: None,
            watch: watch.ok(),
            limit: RateLimit::new(BURST, EVERY),
            fight: None,
            is_on: false,
        }
    }

    /// Finds out who configures the resolver.
    async fn choose(&mut self) -> std::io::Result<Manager> {
        if self.bus.is_none() {
            self.bus = Bus::connect().await;
        }
        if let Some(bus) = &self.bus {
            // A service that starts writes the file that is read next.
            bus.wake_resolved().await;
        }
        let facts = Facts {
            resolv_conf: self.root.read(RESOLV_CONF)?,
            nsswitch: self.root.read(NSSWITCH).unwrap_or_default(),
            resolvconf: resolvconf::kind().await,
            network_manager: match &self.bus {
                Some(bus) => bus.network_manager().await,
                None => None,
            },
        };
        let (manager, trouble) = choose(&facts);
        if self.manager != Some(manager) {
            tracing::info!(
                "dns: the machine's resolver is configured through {}",
                manager.name()
            );
        }
        self.trouble = trouble;
        Ok(manager)
    }

    /// Takes back what another one was told before.
    async fn turn_to(&mut self, manager: Manager) -> Vec<String> {
        let before = self.manager.replace(manager);
        let mut failures = Vec::new();
        if let Some(before) = before.filter(|before| *before != manager) {
            failures.extend(self.carry_out(before, &DnsConfig::default()).await.err());
            self.restarts = None;
        }
        if manager == Manager::Resolved
            && self.restarts.is_none()
            && let Some(bus) = &self.bus
        {
            let stream = bus.comings_and_goings(bus::RESOLVED).await;
            self.restarts = stream
                .inspect_err(|error| tracing::debug!("watch systemd-resolved: {error}"))
                .ok();
        }
        failures
    }

    async fn carry_out(&mut self, manager: Manager, want: &DnsConfig) -> Result<(), String> {
        match manager {
            Manager::Direct => {
                let is_off = *want == DnsConfig::default();
                let done = match is_off {
                    true => self.direct.restore(),
                    false => self.direct.apply(want),
                };
                done.map_err(|error| error.to_string())?;
                relabel(&self.root).await
            }
            Manager::Resolved | Manager::EarlyNm => {
                let bus = self.bus.as_ref();
                let bus = bus.ok_or("systemd-resolved: there is no D-Bus to reach it by")?;
                match link_number(&self.device) {
                    Some(link) => resolved::apply(bus, link, want).await,
                    // What was said about a device goes with it.
                    None if *want == DnsConfig::default() => Ok(()),
                    None => Err(format!("there is no device `{}`", self.device)),
                }
            }
            Manager::DebianResolvconf => resolvconf::debian(&self.root, want).await,
            Manager::Openresolv => resolvconf::openresolv(want).await,
        }
    }

    async fn base(&self, manager: Manager) -> Result<ResolvConf, String> {
        match manager {
            Manager::Direct => self.direct.base().map_err(|error| error.to_string()),
            // It asks the others itself.
            Manager::Resolved | Manager::EarlyNm => Ok(ResolvConf::default()),
            Manager::DebianResolvconf => resolvconf::debian_base(&self.root).await,
            Manager::Openresolv => resolvconf::openresolv_base().await,
        }
    }

    async fn read_system(&mut self) -> Result<SystemDns, String> {
        let manager = self.choose().await.map_err(|error| error.to_string())?;
        let base = self.base(manager).await?;
        let is_other = |ip: &std::net::IpAddr| !packet::addr::is_service_ip(*ip);
        Ok(SystemDns {
            manager: manager.name(),
            splits: matches!(manager, Manager::Resolved | Manager::EarlyNm),
            nameservers: base.nameservers.into_iter().filter(is_other).collect(),
            search: base.search,
            failure: None,
        })
    }

    async fn put(&mut self, want: &DnsConfig) -> Applied {
        self.is_on = *want != DnsConfig::default();
        let manager = match self.choose().await {
            Ok(manager) => manager,
            Err(error) => {
                return Applied {
                    failures: vec![error.to_string()],
                    ..Applied::default()
                };
            }
        };
        let mut failures = self.turn_to(manager).await;
        failures.extend(self.carry_out(manager, want).await.err());
        if self.is_on {
            failures.extend(self.trouble.map(str::to_owned));
        }
        let fight = self
            .fight
            .map(|_| format!("{RESOLV_CONF} is written by somebody else again and again"));
        Applied {
            failures,
            notes: fight.into_iter().collect(),
        }
    }

    /// Resolves when there is something to look at.
    async fn stirred(&mut self) {
        let Self {
            watch, restarts, ..
        } = self;
        let file = async {
            match watch {
                Some(watch) => watch.changed().await,
                None => pending().await,
            }
        };
        let service = async {
            match restarts {
                Some(restarts) => restarts.next().await.is_some(),
                None => pending().await,
            }
        };
        tokio::select! {
            changed = file => {
                if let Err(error) = changed {
                    tracing::warn!("changes of {RESOLV_CONF} will go unnoticed: {error}");
                    self.watch = None;
                }
            }
            is_there = service => {
                if !is_there {
                    rt::sleep_until(rt::now() + RECONNECT).await;
                    (self.bus, self.restarts) = (None, None);
                }
            }
        }
    }

    /// Whether what is there is not what was asked for, as far as that can be seen.
    fn is_disturbed(&self) -> bool {
        match self.manager {
            Some(Manager::Direct) => self.direct.has_drifted(),
            // Who else writes the file may be another manager.
            _ => true,
        }
    }
}

impl DnsConfigurator for LinuxDns {
    fn system(&mut self) -> BoxFuture<'_, SystemDns> {
        Box::pin(async {
            let read = self.read_system().await;
            read.unwrap_or_else(|failure| SystemDns {
                manager: self.manager.map_or("", Manager::name),
                failure: Some(failure),
                ..SystemDns::default()
            })
        })
    }

    fn apply<'a>(&'a mut self, want: &'a DnsConfig) -> BoxFuture<'a, Applied> {
        Box::pin(self.put(want))
    }

    fn drifted(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            loop {
                // A fight that has ended is told of, too.
                let peace = self.fight.map(|since| since + EVERY);
                tokio::select! {
                    () = self.stirred() => {}
                    () = rt::sleep_until(peace.unwrap_or_else(rt::now)), if peace.is_some() => {
                        self.fight = None;
                        return;
                    }
                }
                rt::sleep_until(rt::now() + SETTLE).await;
                if !self.is_on || !self.is_disturbed() {
                    continue;
                }
                if !self.limit.allow(rt::now()) {
                    if self.fight.is_none() {
                        tracing::warn!(
                            "dns: {RESOLV_CONF} is written by somebody else again and again"
                        );
                    }
                    self.fight = Some(rt::now());
                    rt::sleep_until(rt::now() + EVERY).await;
                }
                return;
            }
        })
    }

    fn cleanup(&mut self) -> BoxFuture<'_, Applied> {
        Box::pin(async { self.put(&DnsConfig::default()).await })
    }
}

/// Undoes what an earlier process has left behind, whoever configures the resolver now. Must be called inside the async
/// runtime.
pub async fn cleanup(device: &str) -> Applied {
    let mut dns = LinuxDns::new(device);
    let mut applied = dns.put(&DnsConfig::default()).await;
    if dns.manager != Some(Manager::Direct) {
        applied
            .failures
            .extend(dns.direct.restore().err().map(|error| error.to_string()));
    }
    applied
}

fn link_number(device: &str) -> Option<i32> {
    let link = Netlink::open(Protocol::Route).and_then(|mut kernel| kernel.link_named(device));
    let number = link.ok()??.index;
    i32::try_from(number).ok()
}

/// Where SELinux is in force, a file that we made has a label that others may not read.
async fn relabel(root: &Root) -> Result<(), String> {
    let is_enforced = root.read("/sys/fs/selinux/enforce");
    if !is_enforced.is_ok_and(|text| text.is_some_and(|text| text.trim() == "1")) {
        return Ok(());
    }
    let path = root.at(RESOLV_CONF);
    let done = resolvconf::run("restorecon", &[&path.to_string_lossy()], None).await;
    done.map(drop).map_err(|error| {
        format!("restore the SELinux label of {RESOLV_CONF}: {error}; see https://github.com/tailscale/tailscale/issues/20149")
    })
}
