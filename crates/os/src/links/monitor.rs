//! Reads the interfaces, now and whenever the kernel says that something has changed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use host::{BoxFuture, Instant, LinkDelta, LinkMonitor, LinkState};
use packet::addr::is_tailscale_ip;

use super::alarm::Alarm;
use super::pace::Pace;
use super::state::{Interface, Machine, TICK, delta, has_slept};
use crate::netlink::route::{
    DEL_LINK, DEL_ROUTE, NEW_ADDRESS, NEW_LINK, NEW_ROUTE, TABLE_MAIN, UNICAST,
};
use crate::netlink::socket::Subscription;
use crate::netlink::{Address, Message, Netlink, Protocol, Route};

/// Multicast groups: links, addresses and routes of both families (`RTMGRP_*`).
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// How long a kernel that cannot be asked is left alone.
const RETRY: Duration = Duration::from_secs(5);
/// Our routing table: its routes are no news.
const TABLE_OURS: u32 = 52;

/// Watches by netlink.
pub struct Monitor {
    events: Subscription,
    alarm: Alarm,
    tun: Option<String>,
    machine: Machine,
    state: Arc<LinkState>,
    /// When the clock was last looked at.
    ticked: Instant,
    /// When the interfaces may be read again.
    rested: Instant,
    pace: Pace,
    /// Something has changed that was not looked at yet.
    is_stale: bool,
    /// The kernel does not say when something changes.
    is_deaf: bool,
}

impl Monitor {
    /// Starts to watch. `tun` is the name of our own device, which does not count. Must be called inside the async runtime.
    pub fn start(tun: Option<String>) -> io::Result<Self> {
        // The subscription comes first: what changes while the interfaces are read is seen after it.
        let events = Subscription::open(Protocol::Route, GROUPS)?;
        let machine = read(tun.clone())?;
        Ok(Self {
            events,
            alarm: Alarm::new()?,
            tun,
            state: Arc::new(machine.state()),
            machine,
            ticked: rt::now(),
            rested: rt::now(),
            pace: Pace::default(),
            is_stale: false,
            is_deaf: false,
        })
    }

    async fn next(&mut self) -> LinkDelta {
        loop {
            self.wait().await;
            let now = rt::now();
            let gap = now.since(std::mem::replace(&mut self.ticked, now));
            // Nothing has been said, and no time is missing: an idle machine is left alone.
            if !self.is_stale && !self.is_deaf && !has_slept(gap) {
                continue;
            }
            let machine = match read(self.tun.clone()) {
                Ok(machine) => machine,
                Err(error) => {
                    tracing::warn!("cannot read the network interfaces: {error}");
                    self.rested = now + RETRY;
                    continue;
                }
            };
            self.is_stale = false;
            self.rested = now + self.pace.rest(now);
            let step = delta(&self.machine, &machine, gap);
            self.machine = machine;
            if let Some(step) = step {
                self.state = Arc::clone(&step.now);
                return step;
            }
        }
    }

    /// Until the interfaces are worth a look. Whoever gives up waiting loses nothing.
    async fn wait(&mut self) {
        let tick = self.ticked + TICK;
        while rt::now() < tick {
            if self.is_stale {
                return rt::sleep_until(self.rested).await;
            }
            tokio::select! {
                ended = self.alarm.at(tick) => {
                    if let Err(error) = ended {
                        tracing::debug!("timer: {error}");
                        rt::sleep_until(tick).await;
                    }
                    return;
                }
                ready = self.events.readable() => {
                    let mut matters = false;
                    let drained = match ready {
                        Ok(()) => self.events.drain(|message| matters |= is_news(&message)),
                        Err(error) => Err(error),
                    };
                    match drained {
                        Ok(is_lossy) => self.is_stale |= matters | is_lossy,
                        // Then only the ticks are left, as in a sandbox without netlink events.
                        Err(error) => {
                            tracing::debug!("link events: {error}");
                            self.is_deaf = true;
                            return rt::sleep_until(tick).await;
                        }
                    }
                }
            }
        }
    }
}

impl LinkMonitor for Monitor {
    fn current(&self) -> Arc<LinkState> {
        Arc::clone(&self.state)
    }

    fn changed(&mut self) -> BoxFuture<'_, LinkDelta> {
        Box::pin(self.next())
    }
}

/// Whether a message may mean a change of the network. What we do ourselves does not.
fn is_news(message: &Message<'_>) -> bool {
    match message.kind {
        NEW_LINK | DEL_LINK => true,
        NEW_ADDRESS => {
            Address::parse(message.body).is_none_or(|address| !is_tailscale_ip(address.net.addr()))
        }
        NEW_ROUTE | DEL_ROUTE => Route::parse(message.body).is_none_or(|route| {
            let to = route.to.addr();
            let is_local = to.is_multicast()
                || matches!(to, std::net::IpAddr::V6(v6) if v6.is_unicast_link_local());
            route.table != TABLE_OURS
                && !(is_tailscale_ip(to) && route.to.prefix_len() > 8)
                && !(message.kind == NEW_ROUTE && is_local)
        }),
        _ => true,
    }
}

fn read(tun: Option<String>) -> io::Result<Machine> {
    let mut netlink = Netlink::open(Protocol::Route)?;
    let links = netlink.links()?;
    let mut addresses = netlink.addresses_by_link()?;
    let routes = netlink.routes()?;
    let mut machine = Machine {
        tun,
        ..Machine::default()
    };
    let default = default_link(&routes, |index| {
        links.iter().any(|link| {
            link.index == index
                && !link.name.starts_with("tailscale")
                && !link.name.starts_with("wg")
                && machine.tun.as_deref() != Some(&link.name)
        })
    });
    for link in links {
        if default == Some(link.index) {
            machine.default_interface = Some(link.name.clone());
        }
        let mut own = addresses.remove(&link.index).unwrap_or_default();
        own.sort();
        let interface = Interface {
            up: link.up,
            loopback: link.loopback,
            addresses: own,
        };
        machine.interfaces.insert(link.name, interface);
    }
    Ok(machine)
}

/// The interface of the best default route of the main table; IPv4 first.
fn default_link(routes: &[Route], counts: impl Fn(u32) -> bool) -> Option<u32> {
    let defaults = routes.iter().filter(|route| {
        route.to.prefix_len() == 0 && route.table == TABLE_MAIN && route.kind == UNICAST
    });
    defaults
        .filter_map(|route| Some((route.to.addr().is_ipv6(), route.metric, route.link?)))
        .filter(|(_, _, link)| counts(*link))
        .min_by_key(|(v6, metric, _)| (*v6, *metric))
        .map(|(_, _, link)| link)
}
