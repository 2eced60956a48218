//! Linux: addresses, routes and rules by netlink.
//!
//! `plan` compares what the kernel has with what is wanted and says what to do, in order; [`LinuxRouter`] does it. The
//! kernel's present state is read each time, so whatever somebody else has changed, or an earlier process has left behind, is
//! mended by the same steps. Nothing is touched but what can only be ours: the device, routing table 52 where it leads to
//! the device, and the rules at our priorities.
//!
//! The firewall is `firewall`'s.

mod egress;
mod firewall;
mod knobs;
mod plan;
mod watch;

pub use egress::{Marked, mark};

use std::io;
use std::net::IpAddr;

use host::{Applied, BoxFuture, Difference, RouterConfig};
use ipnet::IpNet;
use rustix::io::Errno;

use self::firewall::Around;
use self::knobs::Knobs;

use self::plan::{Have, Step, Want, plan};
use self::watch::Watch;
use crate::netlink::{Address, Link, Netlink, Protocol};

/// The bits of a packet's mark that are ours to use.
const MARK_MASK: u32 = 0xff_0000;
/// Marks packets of our own sockets: they never enter the tunnel.
const BYPASS_MARK: u32 = 0x8_0000;
/// Our routing table.
const TABLE: u32 = 52;
/// Our rules' priorities start behind this.
const RULE_BASE: u32 = 5200;
/// The same where mwan3 has rules of its own that come before those.
const RULE_BASE_BEFORE_MWAN3: u32 = 1300;
/// What says that a machine has mwan3.
const MWAN3: &str = "/etc/config/mwan3";

/// Routes through one TUN device, and the firewall around it.
#[derive(Debug)]
pub struct LinuxRouter {
    device: String,
    knobs: Knobs,
    /// What is wanted; `None` before the first time and after the last.
    want: Option<RouterConfig>,
    /// Whether it was told last that the machine does not forward.
    forwarding_off: bool,
    watch: Watch,
}

impl LinuxRouter {
    /// A router for `device`. It changes nothing yet; what an earlier process has left behind goes with the first
    /// [`apply`](host::Router::apply). Must be called inside the async runtime.
    pub fn new(device: &str) -> io::Result<Self> {
        Ok(Self {
            device: device.to_owned(),
            knobs: Knobs::from_environment(),
            want: None,
            forwarding_off: false,
            watch: Watch::start()?,
        })
    }

    fn reconcile(&mut self, config: &RouterConfig) -> Applied {
        let applied = reconcile(&self.device, config);
        // What we have just done ourselves is not somebody else's doing.
        self.watch.forget();
        applied
    }

    fn is_on(&self) -> bool {
        let is_on = |config: &RouterConfig| *config != RouterConfig::default();
        self.want.as_ref().is_some_and(is_on)
    }
}

impl host::Router for LinuxRouter {
    fn differences(&mut self, config: &RouterConfig) -> Result<Vec<Difference>, String> {
        let config = self.knobs.turn(config);
        let found = Netlink::open(Protocol::Route).and_then(|mut netlink| {
            let have = read(&mut netlink, &self.device)?;
            let routing = plan(&have, &Want::from_config(&config));
            let mut all: Vec<Difference> = routing.iter().map(Step::difference).collect();
            let around = around(&self.device, &config, &have);
            all.extend(firewall::differences(&config.firewall, around)?);
            Ok(all)
        });
        found.map_err(|error| format!("read the kernel's routing: {error}"))
    }

    fn apply(&mut self, config: &RouterConfig) -> Applied {
        let config = self.knobs.turn(config);
        let mut applied = self.reconcile(&config);
        self.forwarding_off = forwarding_off(&config);
        applied.forwarding_off = self.forwarding_off;
        self.want = Some(config);
        applied
    }

    fn drifted(&mut self) -> BoxFuture<'_, ()> {
        let is_on = self.is_on();
        Box::pin(async move {
            loop {
                self.watch.changed(is_on).await;
                // Others change much that is none of our business.
                if self.want.as_ref().is_none_or(|want| {
                    has_drifted(&self.device, want, self.knobs)
                        || forwarding_off(want) != self.forwarding_off
                }) {
                    return;
                }
            }
        })
    }

    fn cleanup(&mut self) -> Applied {
        self.want = None;
        self.reconcile(&RouterConfig::default())
    }
}

/// Removes what a process that routed through `device` has left behind.
pub fn cleanup(device: &str) -> Applied {
    reconcile(device, &RouterConfig::default())
}

fn reconcile(device: &str, config: &RouterConfig) -> Applied {
    let want = Want::from_config(config);
    let outcome = Netlink::open(Protocol::Route).and_then(|mut netlink| {
        let have = read(&mut netlink, device)?;
        let mut applied = carry_out(&mut netlink, plan(&have, &want));
        if want.is_on() && have.link.is_none() {
            let missing = format!("there is no device `{device}`");
            applied.failures.push(missing);
        }
        let failures = firewall::reconcile(&config.firewall, around(device, config, &have));
        applied.failures.extend(failures);
        applied.notes.extend(lan_note(&want, &have));
        Ok(applied)
    });
    outcome.unwrap_or_else(|error| Applied {
        failures: vec![format!("read the kernel's routing: {error}")],
        ..Applied::default()
    })
}

/// Whether others are to be routed and the kernel does not forward.
fn forwarding_off(config: &RouterConfig) -> bool {
    config.forwards && !crate::forwarding::problem().is_empty()
}

/// Whether the kernel has something else than is wanted. What cannot be read has not changed.
fn has_drifted(device: &str, config: &RouterConfig, knobs: Knobs) -> bool {
    let have = Netlink::open(Protocol::Route).and_then(|mut netlink| read(&mut netlink, device));
    have.is_ok_and(|have| {
        let steps = plan(&have, &Want::from_config(config));
        if knobs.mends_rules_only() {
            return steps.iter().any(|step| matches!(step, Step::AddRule(_)));
        }
        !steps.is_empty() || firewall::has_drifted(&config.firewall, around(device, config, &have))
    })
}

fn around<'a>(device: &'a str, config: &'a RouterConfig, have: &Have) -> Around<'a> {
    Around {
        device,
        has_v6: have.v6,
        addresses: &config.addresses,
        routes: &config.routes,
        is_cgnat_underlay: have.is_cgnat_underlay(),
    }
}

/// Says which networks around us hide a peer's.
fn lan_note(want: &Want, have: &Have) -> Option<String> {
    let hidden = match want.lan() {
        host::Lan::Wins => want.exceptions(have),
        host::Lan::Yields | host::Lan::Captured | host::Lan::Kept => return None,
    };
    let list: Vec<String> = hidden.iter().map(IpNet::to_string).collect();
    (!list.is_empty()).then(|| {
        format!(
            "a peer offers a route to {}, which this machine is on itself: the network here is used",
            list.join(", ")
        )
    })
}

fn read(netlink: &mut Netlink, device: &str) -> io::Result<Have> {
    let links = netlink.links()?;
    let link = links.iter().find(|link| link.name == device);
    let index = link.map(|link| link.index);
    let of = |wanted: &dyn Fn(&Link) -> bool, addresses: &[Address]| -> Vec<IpNet> {
        addresses
            .iter()
            .filter(|address| {
                let owner = links.iter().find(|link| link.index == address.link);
                owner.is_some_and(wanted)
            })
            .map(|address| address.net)
            .collect()
    };
    let addresses = netlink.addresses()?;
    let routes = netlink.routes()?;
    Ok(Have {
        link: index,
        is_up: link.is_some_and(|link| link.up),
        v6: has_v6(device),
        machine_v6: std::path::Path::new(IF_INET6).exists(),
        others: of(
            &|link| Some(link.index) != index && !link.loopback && link.up && link.carrier,
            &addresses,
        ),
        loopback: of(&|link| link.loopback, &addresses),
        addresses: of(&|link| Some(link.index) == index, &addresses),
        gateways: routes.iter().filter_map(|route| route.gateway).collect(),
        routes: routes
            .into_iter()
            .filter(|route| route.table == TABLE)
            .collect(),
        rules: netlink.rules()?,
        has_mwan3: std::path::Path::new(MWAN3).exists(),
    })
}

/// There where the kernel has IPv6.
const IF_INET6: &str = "/proc/net/if_inet6";

/// Whether the device can have IPv6 addresses. A device too narrow for IPv6 has no such file.
fn has_v6(device: &str) -> bool {
    let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
    match std::fs::read_to_string(path) {
        Ok(text) => text.trim() == "0",
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

fn carry_out(netlink: &mut Netlink, steps: Vec<Step>) -> Applied {
    let requests = steps.iter().map(Step::request).collect();
    let outcomes = netlink.requests(requests);
    let failed = |(step, outcome): (&Step, io::Result<()>)| {
        let error = outcome.err()?;
        (!is_done_already(step, &error)).then(|| format!("{step}: {error}"))
    };
    Applied {
        failures: steps.iter().zip(outcomes).filter_map(failed).collect(),
        ..Applied::default()
    }
}

/// Whether somebody else was quicker.
fn is_done_already(step: &Step, error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    match step {
        Step::AddAddress(_) | Step::AddRule(_) => errno == Some(Errno::EXIST),
        Step::RemoveAddress(_) => errno == Some(Errno::ADDRNOTAVAIL),
        Step::RemoveRoute(_) => errno == Some(Errno::SRCH),
        Step::RemoveRule(_) => errno == Some(Errno::NOENT),
        Step::LinkUp(_) | Step::AddRoute(_) => false,
    }
}

/// Whether the mark of a socket can be set, which needs CAP_NET_ADMIN.
fn can_mark() -> bool {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None);
    socket.is_ok_and(|socket| socket.set_mark(BYPASS_MARK).is_ok())
}

/// Whether packets to `ip` need no mark: they stay on this machine.
fn stays_here(ip: IpAddr) -> bool {
    ip.is_loopback()
}
