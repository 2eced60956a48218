//! Notices when somebody else removes what is ours: systemd-networkd, for one, removes rules that it does not know.

use std::io;
use std::time::Duration;

use host::Instant;
use rt::RateLimit;

use super::{RULE_BASE, TABLE};
use crate::netlink::route::{DEL_ADDRESS, DEL_ROUTE, DEL_RULE};
use crate::netlink::socket::Subscription;
use crate::netlink::{Message, Route, Rule};
use packet::addr::is_tailscale_ip;

/// Multicast groups: addresses, routes and rules of both families. That of IPv6 rules is number 19, and has no `RTMGRP_*`.
const GROUPS: u32 = 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | (1 << 18);
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
    limit: RateLimit,
    /// When to tell of what was seen.
    tell_at: Option<Instant>,
}

impl Watch {
    pub(super) fn start() -> io::Result<Self> {
        Ok(Self {
            events: Subscription::open(GROUPS)?,
            limit: RateLimit::new(BURST, EVERY),
            tell_at: None,
        })
    }

    /// Forgets what has happened so far.
    pub(super) fn forget(&mut self) {
        self.tell_at = None;
        // What cannot be read now cannot be read later, and is told of then.
        let _ = self.events.drain(|_| {});
    }

    /// Resolves some time after something of ours was removed. Whoever gives up waiting loses nothing.
    pub(super) async fn drifted(&mut self, is_on: bool) {
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
            if let Err(error) = self.events.readable().await {
                tracing::debug!("routing events: {error}");
                rt::sleep_until(rt::now() + RETRY).await;
                continue;
            }
            let mut is_ours = false;
            match self
                .events
                .drain(|message| is_ours |= concerns_us(&message))
            {
                Ok(is_lossy) if is_lossy || is_ours => {
                    self.tell_at = Some(rt::now() + SETTLE);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!("routing events: {error}");
                    rt::sleep_until(rt::now() + RETRY).await;
                }
            }
        }
    }
}

/// Whether something that may be ours was removed.
fn concerns_us(message: &Message<'_>) -> bool {
    match message.kind {
        DEL_RULE => Rule::parse(message.body)
            .is_some_and(|rule| (RULE_BASE..RULE_BASE + 100).contains(&rule.priority)),
        DEL_ROUTE => Route::parse(message.body).is_some_and(|route| route.table == TABLE),
        DEL_ADDRESS => crate::netlink::Address::parse(message.body)
            .is_some_and(|address| is_tailscale_ip(address.net.addr())),
        _ => false,
    }
}
