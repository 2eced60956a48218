//! Linux: addresses, routes and rules by netlink.
//!
//! `plan` compares what the kernel has with what is wanted and says what to do, in order; [`LinuxRouter`] does it. The
//! kernel's present state is read each time, so whatever somebody else has changed, or an earlier process has left behind, is
//! mended by the same steps. Nothing is touched but what can only be ours: the device, routing table 52 where it leads to
//! the device, and the rules at our priorities.
//!
//! The firewall is left alone.

mod egress;
mod plan;
mod watch;

pub use egress::{Marked, mark};

use std::io;
use std::net::IpAddr;

use host::{Applied, BoxFuture, RouterConfig};
use rustix::io::Errno;

use self::plan::{Have, Step, Want, plan};
use self::watch::Watch;
use crate::netlink::{Netlink, Protocol};

/// The bits of a packet's mark that are ours to use.
const MARK_MASK: u32 = 0xff_0000;
/// Marks packets of our own sockets: they never enter the tunnel.
const BYPASS_MARK: u32 = 0x8_0000;
/// Our routing table.
const TABLE: u32 = 52;
/// Our rules' priorities start behind this.
const RULE_BASE: u32 = 5200;

/// Routes through one TUN device.
#[derive(Debug)]
pub struct LinuxRouter {
    device: String,
    /// What is wanted; `None` before the first time and after the last.
    want: Option<Want>,
    watch: Watch,
}

impl LinuxRouter {
    /// A router for `device`. It changes nothing yet; what an earlier process has left behind goes with the first
    /// [`apply`](host::Router::apply). Must be called inside the async runtime.
    pub fn new(device: &str) -> io::Result<Self> {
        Ok(Self {
            device: device.to_owned(),
            want: None,
            watch: Watch::start()?,
        })
    }

    fn reconcile(&mut self, want: &Want) -> Applied {
        let outcome = Netlink::open(Protocol::Route).and_then(|mut netlink| {
            let have = read(&mut netlink, &self.device)?;
            let mut applied = carry_out(&mut netlink, plan(&have, want));
            if want.is_on() && have.link.is_none() {
                let missing = format!("there is no device `{}`", self.device);
                applied.failures.push(missing);
            }
            Ok(applied)
        });
        // What we have just done ourselves is not somebody else's doing.
        self.watch.forget();
        outcome.unwrap_or_else(|error| Applied {
            failures: vec![format!("read the kernel's routing: {error}")],
        })
    }
}

impl host::Router for LinuxRouter {
    fn apply(&mut self, config: &RouterConfig) -> Applied {
        let want = Want::from_config(config);
        let applied = self.reconcile(&want);
        self.want = Some(want);
        applied
    }

    fn drifted(&mut self) -> BoxFuture<'_, ()> {
        let is_on = self.want.as_ref().is_some_and(|want| want.is_on());
        Box::pin(self.watch.drifted(is_on))
    }

    fn cleanup(&mut self) -> Applied {
        self.want = None;
        self.reconcile(&Want::nothing())
    }
}

/// Removes what a process that routed through `device` has left behind.
pub fn cleanup(device: &str) -> Applied {
    let outcome = Netlink::open(Protocol::Route).and_then(|mut netlink| {
        let have = read(&mut netlink, device)?;
        Ok(carry_out(&mut netlink, plan(&have, &Want::nothing())))
    });
    outcome.unwrap_or_else(|error| Applied {
        failures: vec![format!("read the kernel's routing: {error}")],
    })
}

fn read(netlink: &mut Netlink, device: &str) -> io::Result<Have> {
    let link = netlink.link_named(device)?;
    let index = link.as_ref().map(|link| link.index);
    let v6 = has_v6(device);
    let addresses = netlink.addresses()?;
    let routes = netlink.routes()?;
    Ok(Have {
        link: index,
        is_up: link.is_some_and(|link| link.up),
        v6,
        addresses: addresses
            .into_iter()
            .filter(|address| Some(address.link) == index)
            .map(|address| address.net)
            .collect(),
        routes: routes
            .into_iter()
            .filter(|route| route.table == TABLE)
            .collect(),
        rules: netlink.rules()?,
    })
}

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
