//! Notices when somebody else removes what is ours (systemd-networkd, for one, removes rules that it does not know), and when
//! the networks around us change, which decide what may go into the tunnel.

use std::io;
use std::time::Duration;

use host::Instant;
use rt::RateLimit;

use super::{RULE_BASE, RULE_BASE_BEFORE_MWAN3, TABLE};
use crate::netlink::route::{DEL_ADDRESS, DEL_LINK, DEL_ROUTE, DEL_RULE, NEW_ADDRESS, NEW_LINK};
use crate::netlink::socket::Subscription;
use crate::netlink::{Message, Protocol, Route, Rule};

/// Multicast groups: links, and addresses, routes and rules of both families. That of IPv6 rules is number 19, and has no
/// `RTMGRP_*`.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | (1 << 18) | FORWARDING_GROUPS;
/// Switches of interfaces, forwarding among them, of both families: numbers 24 and 25.
const FORWARDING_GROUPS: u32 = (1 << 23) | (1 << 24);
/// What the kernel says of them, `RTM_NEWNETCONF`.
const NEW_SWITCH: u16 = 80;
/// `NFNLGRP_NFTABLES`.
const FIREWALL_GROUPS: u32 = 1 << 6;
/// Whoever removes one thing mostly removes more.
const SETTLE: Duration = Duration::from_millis(250);
/// Somebody who removes it again and again wins in the end, but not all of the processor's time.
const BURST: u32 = 10;
const EVERY: Duration = Duration::from_secs(5);
/// How long a kernel that cannot be listened to is left alone.
const RETRY: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Watch {
    events: Subscription,
    /// `None` where the kernel has no nftables.
    firewall: Option<Subscription>,
    limit: RateLimit,
    /// When to tell of what was seen.
    tell_at: Option<Instant>,
}

impl Watch {
    pub(super) fn start() -> io::Result<Self> {
        Ok(Self {
            events: Subscription::open(Protocol::Route, GROUPS)?,
            firewall: Subscription::open(Protocol::Netfilter, FIREWALL_GROUPS)
                .inspect_err(|error| tracing::debug!("firewall events: {error}"))
                .ok(),
            limit: RateLimit::new(BURST, EVERY),
            tell_at: None,
        })
    }

    /// Forgets what has happened so far.
    pub(super) fn forget(&mut self) {
        self.tell_at = None;
        // What cannot be read now cannot be read later, and is told of then.
        let _ = self.events.drain(|_| {});
        if let Some(firewall) = &mut self.firewall {
            let _ = firewall.drain(|_| {});
        }
    }

    /// Resolves some time after something happened that may concern us. Whoever gives up waiting loses nothing.
    pub(super) async fn changed(&mut self, is_on: bool) {
        if !is_on {
            return std::future::pending().await;
        }
        loop {
            if let Some(at) = self.tell_at {
                rt::sleep_until(at).await;
                self.tell_at = None;
                if self.limit.allow(rt::now()) {
                    return;
                }
                // Too often: look again later, at whatever it is then.
                self.tell_at = Some(rt::now() + EVERY);
                continue;
            }
            match self.look().await {
                Ok(true) => self.tell_at = Some(rt::now() + SETTLE),
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!("routing events: {error}");
                    rt::sleep_until(rt::now() + RETRY).await;
                }
            }
        }
    }

    /// Waits for events; says whether they concern us.
    async fn look(&mut self) -> io::Result<bool> {
        let Self {
            events, firewall, ..
        } = self;
        let firewall_event = async {
            match firewall {
                Some(firewall) => {
                    firewall.readable().await?;
                    let mut any = false;
                    let is_lossy = firewall.drain(|_| any = true)?;
                    Ok(any || is_lossy)
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = events.readable() => {
                ready?;
                let mut is_ours = false;
                let is_lossy = events.drain(|message| is_ours |= concerns_us(&message))?;
                Ok(is_lossy || is_ours)
            }
            event = firewall_event => event,
        }
    }
}

/// Whether something that may be ours was removed, or the networks around us changed.
fn concerns_us(message: &Message<'_>) -> bool {
    match message.kind {
        DEL_RULE => Rule::parse(message.body).is_some_and(|rule| {
            let bases = [RULE_BASE, RULE_BASE_BEFORE_MWAN3];
            bases
                .iter()
                .any(|base| (*base..base + 100).contains(&rule.priority))
        }),
        DEL_ROUTE => Route::parse(message.body).is_some_and(|route| route.table == TABLE),
        NEW_ADDRESS | DEL_ADDRESS | NEW_LINK | DEL_LINK | NEW_SWITCH => true,
        _ => false,
    }
}
