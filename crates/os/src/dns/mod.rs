//! The machine's resolver: asks us for what is ours while we are on, and is as it was before when we are not.
//!
//! `choose` says through whom, from what there is on the machine; each of the others has one of them do it. All of it is
//! looked at again when `/etc/resolv.conf` changes or systemd-resolved starts anew, so that a machine may change its mind.

mod bus;
mod choose;
mod command;
mod direct;
pub mod fuzzing;
mod network_manager;
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
use host::{Applied, BoxFuture, Difference, DnsConfig, DnsConfigurator, Instant, SystemDns};
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
    /// Who configures the resolver, as it was last seen.
    chosen: Option<Manager>,
    /// Who was told what is wanted.
    told: Option<Manager>,
    /// What was wanted last.
    last: Option<DnsConfig>,
    /// The text of resolv.conf since; `None` while nothing is wanted.
    settled: Option<Option<String>>,
    direct: Direct,
    bus: Option<Bus>,
    /// Tells when systemd-resolved starts anew.
    restarts: Option<MessageStream>,
    watch: Option<Watch>,
    limit: RateLimit,
    /// Since when somebody fights us, until it has been quiet for a while.
    fight: Option<Instant>,
}

/// What has happened.
enum Stir {
    /// Something to the file.
    File,
    /// systemd-resolved has started, and knows nothing of us.
    Restart,
    /// The bus has gone.
    BusGone,
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
            chosen: None,
            told: None,
            last: None,
            settled: None,
            bus: None,
            restarts: None,
            watch: watch.ok(),
            limit: RateLimit::new(BURST, EVERY),
            fight: None,
        }
    }

    /// Finds out who configures the resolver, and what about that is not as it should be.
    async fn choose(&mut self) -> std::io::Result<(Manager, Option<&'static str>)> {
        if self.bus.is_none() {
            self.bus = Bus::connect().await;
        }
        if let Some(bus) = &self.bus {
            // A service that starts writes the file that is read next.
            bus.wake_resolved().await;
        }
        let mut facts = Facts {
            resolv_conf: self.root.read(RESOLV_CONF)?,
            nsswitch: self.root.read(NSSWITCH).unwrap_or_default(),
            ..Facts::default()
        };
        if facts.concerns_resolvconf() {
            facts.resolvconf = resolvconf::kind().await;
        }
        if facts.concerns_network_manager()
            && let Some(bus) = &self.bus
        {
            facts.network_manager = bus.network_manager().await;
        }
        let (manager, trouble) = choose(&facts);
        if self.chosen.replace(manager) != Some(manager) {
            let name = manager.name();
            tracing::info!("dns: the machine's resolver is configured through {name}");
        }
        Ok((manager, trouble))
    }

    /// Takes back what another one was told before.
    async fn turn_to(&mut self, manager: Manager) -> Option<String> {
        let before = self.told.replace(manager);
        let mut failure = None;
        if let Some(before) = before.filter(|before| *before != manager) {
            failure = self.carry_out(before, &DnsConfig::default()).await.err();
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
        failure
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
            Manager::EarlyNm { .. } => {
                let bus = self.bus.as_ref();
                let bus = bus.ok_or("NetworkManager: there is no D-Bus to reach it by")?;
                let own = own_addresses(&self.device);
                match link_number(&self.device) {
                    Some(_) => network_manager::apply(bus, &self.device, &own, want).await,
                    // What it knows of a device goes with it.
                    None if *want == DnsConfig::default() => Ok(()),
                    None => Err(format!("there is no device `{}`", self.device)),
                }
            }
            Manager::Resolved => {
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
            // It asks the others itself, and is asked where the file says.
            Manager::EarlyNm { splits: false } => {
                let bus = self.bus.as_ref();
                let bus = bus.ok_or("NetworkManager: there is no D-Bus to reach it by")?;
                let said = bus.network_manager_dns().await;
                said.and_then(|said| network_manager::base(said.body().data(), &self.device))
                    .map_err(|error| format!("NetworkManager: {error}"))
            }
            Manager::Resolved | Manager::EarlyNm { splits: true } => Ok(ResolvConf {
                nameservers: self.direct.base().unwrap_or_default().nameservers,
                ..ResolvConf::default()
            }),
            Manager::DebianResolvconf => resolvconf::debian_base(&self.root).await,
            Manager::Openresolv => resolvconf::openresolv_base().await,
        }
    }

    async fn read_system(&mut self) -> Result<SystemDns, String> {
        let chosen = self.choose().await;
        let (manager, trouble) = chosen.map_err(|error| error.to_string())?;
        let base = self.base(manager).await?;
        let is_other = |ip: &std::net::IpAddr| !packet::addr::is_service_ip(*ip);
        Ok(SystemDns {
            manager: manager.name(),
            splits: matches!(
                manager,
                Manager::Resolved | Manager::EarlyNm { splits: true }
            ),
            nameservers: base.nameservers.into_iter().filter(is_other).collect(),
            search: base.search,
            trouble: trouble.map(str::to_owned),
        })
    }

    async fn compare(&mut self, want: &DnsConfig) -> Result<Vec<Difference>, String> {
        let manager = match self.chosen {
            Some(manager) => manager,
            None => {
                let chosen = self.choose().await;
                chosen.map_err(|error| error.to_string())?.0
            }
        };
        let is_off = *want == DnsConfig::default();
        let (is_same, how) = match manager {
            Manager::Direct => {
                let is_same = self.direct.is_as_wanted(want);
                (is_same.map_err(|error| error.to_string())?, RESOLV_CONF)
            }
            // What the others know of us is what we have told them last.
            _ => {
                let told = self.last.as_ref();
                (told.map_or(is_off, |told| told == want), manager.name())
            }
        };
        let list = |names: Vec<String>| match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        };
        let step = match is_off {
            true => format!("give {how} back"),
            false => format!(
                "have {how} ask {} for {}, with search domains {}",
                list(want.nameservers.iter().map(ToString::to_string).collect()),
                match want.matching.is_empty() {
                    true => "all names".to_owned(),
                    false => list(want.matching.clone()),
                },
                list(want.search.clone()),
            ),
        };
        let difference = Difference {
            part: "dns",
            step,
            about: None,
        };
        Ok((!is_same).then_some(difference).into_iter().collect())
    }

    async fn put(&mut self, want: &DnsConfig) -> Applied {
        self.last = Some(want.clone());
        let manager = match self.chosen {
            Some(manager) => Ok(manager),
            None => self.choose().await.map(|(manager, _)| manager),
        };
        let manager = match manager {
            Ok(manager) => manager,
            Err(error) => {
                return Applied {
                    failures: vec![error.to_string()],
                    ..Applied::default()
                };
            }
        };
        let taken_back = self.turn_to(manager).await;
        let done = self.carry_out(manager, want).await;
        let is_on = *want != DnsConfig::default();
        self.settled = is_on.then(|| self.root.read(RESOLV_CONF).unwrap_or_default());
        let fight = self
            .fight
            .map(|_| format!("{RESOLV_CONF} is written by somebody else again and again"));
        Applied {
            failures: taken_back.into_iter().chain(done.err()).collect(),
            notes: fight.into_iter().collect(),
            ..Applied::default()
        }
    }

    /// Resolves when something has happened. Whoever gives up waiting loses nothing.
    async fn stirred(&mut self) -> Stir {
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
            loop {
                match restarts {
                    None => return pending().await,
                    Some(restarts) => match restarts.next().await {
                        None => return Stir::BusGone,
                        Some(change) if bus::has_come(&change) => return Stir::Restart,
                        // One that is stopped must not be started by us.
                        Some(_) => {}
                    },
                }
            }
        };
        tokio::select! {
            changed = file => {
                if let Err(error) = changed {
                    tracing::warn!("changes of {RESOLV_CONF} will go unnoticed: {error}");
                    self.watch = None;
                }
                Stir::File
            }
            stir = service => stir,
        }
    }

    /// Whether what is wanted must be said again.
    async fn is_disturbed(&mut self, stir: &Stir) -> bool {
        let Some(settled) = &self.settled else {
            return false;
        };
        match stir {
            // What we did ourselves, or had done, is no disturbance.
            Stir::File => {
                let now = self.root.read(RESOLV_CONF);
                now.is_ok_and(|now| now != *settled)
            }
            Stir::Restart => true,
            Stir::BusGone => {
                rt::sleep_until(rt::now() + RECONNECT).await;
                (self.bus, self.restarts) = (None, None);
                true
            }
        }
    }
}

impl DnsConfigurator for LinuxDns {
    fn system(&mut self) -> BoxFuture<'_, Result<SystemDns, String>> {
        Box::pin(self.read_system())
    }

    fn differences<'a>(
        &'a mut self,
        want: &'a DnsConfig,
    ) -> BoxFuture<'a, Result<Vec<Difference>, String>> {
        Box::pin(self.compare(want))
    }

    fn apply<'a>(&'a mut self, want: &'a DnsConfig) -> BoxFuture<'a, Applied> {
        Box::pin(self.put(want))
    }

    fn drifted(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            loop {
                // A fight that has ended is told of, too.
                let fight = self.fight;
                let peace = async {
                    match fight {
                        Some(since) => rt::sleep_until(since + EVERY).await,
                        None => pending().await,
                    }
                };
                let stir = tokio::select! {
                    stir = self.stirred() => stir,
                    () = peace => {
                        self.fight = None;
                        return;
                    }
                };
                rt::sleep_until(rt::now() + SETTLE).await;
                if !self.is_disturbed(&stir).await {
                    continue;
                }
                if !self.limit.allow(rt::now()) {
                    if self.fight.is_none() {
                        tracing::warn!(
                            "dns: {RESOLV_CONF} is written by somebody else again and again"
                        );
                    }
                    rt::sleep_until(rt::now() + EVERY).await;
                    self.fight = Some(rt::now());
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
    if dns.told != Some(Manager::Direct) {
        let restored = dns.direct.restore();
        applied
            .failures
            .extend(restored.err().map(|error| error.to_string()));
    }
    applied
}

fn link_number(device: &str) -> Option<i32> {
    let link = Netlink::open(Protocol::Route).and_then(|mut kernel| kernel.link_named(device));
    let number = link.ok()??.index;
    i32::try_from(number).ok()
}

/// The device's addresses; none where they cannot be read.
fn own_addresses(device: &str) -> Vec<std::net::IpAddr> {
    let read = || {
        let mut kernel = Netlink::open(Protocol::Route)?;
        let link = kernel.link_named(device)?.map(|link| link.index);
        let mut all = kernel.addresses()?;
        all.retain(|address| Some(address.link) == link);
        std::io::Result::Ok(all)
    };
    let all = read().unwrap_or_default();
    all.iter().map(|address| address.net.addr()).collect()
}

/// Where SELinux is in force, a file that we made has a label that others may not read.
async fn relabel(root: &Root) -> Result<(), String> {
    let is_enforced = root.read("/sys/fs/selinux/enforce");
    if !is_enforced.is_ok_and(|text| text.is_some_and(|text| text.trim() == "1")) {
        return Ok(());
    }
    let path = root.at(RESOLV_CONF);
    let done = command::run("restorecon", &[&path.to_string_lossy()], None).await;
    done.map(drop).map_err(|error| {
        format!("restore the SELinux label of {RESOLV_CONF}: {error}; see https://github.com/tailscale/tailscale/issues/20149")
    })
}
