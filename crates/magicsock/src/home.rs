//! Where our home is: when to measure, and what to do with the result.

use std::net::IpAddr;
use std::time::Duration;

use host::Instant;
use netcheck::{Check, CheckOptions, Family, HomePicker, Interfaces, ProbeId, Report};
use rand_core::CryptoRng;

use crate::{LinkId, Magicsock, Output};

/// How old a measurement of all regions may become before the next one covers all of them again.
const FULL_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// While there is traffic, the network is measured this often: before the commonest of NATs forget us, after 30 s. Up to
/// [`SPREAD`] is added, so that nodes do not move in step.
const WHILE_ACTIVE: Duration = Duration::from_secs(20);
const SPREAD: Duration = Duration::from_secs(6);
/// A relay that keeps failing causes no more than one measurement in this time.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Home {
    /// 0 for none.
    pub(crate) region: u16,
    /// Whether peers would learn of a move.
    streaming: bool,
    /// Picks a region when nothing could be measured: another one per process, the same one while it lives.
    seed: u64,
    /// The families of our sockets.
    pub(crate) interfaces: Interfaces,
    /// Whether the machine has an IPv6 address that is good for anything.
    pub(crate) have_v6: bool,
    picker: HomePicker,
    check: Option<Check>,
    /// A measurement is wanted then, or right after the one that runs.
    due: Option<Instant>,
    started: Option<Instant>,
    /// Of this pause between measurements.
    spread: Duration,
    full_at: Option<Instant>,
    last: Option<Report>,
}

impl Home {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            region: 0,
            streaming: false,
            seed,
            interfaces: Interfaces {
                v4: true,
                v6: false,
            },
            have_v6: false,
            picker: HomePicker::new(),
            check: None,
            due: None,
            started: None,
            spread: Duration::ZERO,
            full_at: None,
            last: None,
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match &self.check {
            Some(check) => check.next_timeout(),
            None => self.due,
        }
    }

    /// Wants a measurement no earlier than `at`; an earlier wish stands.
    pub(crate) fn want(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Wants a measurement unless one runs.
    pub(crate) fn want_fresh(&mut self, now: Instant) {
        if self.check.is_none() {
            self.want(now);
        }
    }

    /// Forgets what was measured, and what is being measured.
    pub(crate) fn forget(&mut self) {
        self.check = None;
        self.due = None;
        self.last = None;
        self.picker.clear();
    }

    fn last_full_is_old(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| now.since(at) >= FULL_INTERVAL)
    }
}

impl Magicsock {
    /// Whether a map is being streamed from control. Peers learn of a move only through control, so without a stream an
    /// existing home stays, even if it is dead.
    pub fn set_map_streaming(&mut self, streaming: bool) {
        self.home.streaming = streaming;
    }

    /// The machine's links changed: measures anew, all regions if the change was `major`.
    pub fn handle_link_change(&mut self, major: bool, now: Instant) {
        if major {
            self.home.full_at = None;
        }
        self.home.want(now);
    }

    /// A datagram of the STUN protocol came.
    pub fn handle_stun(&mut self, datagram: &[u8], now: Instant, rng: &mut dyn CryptoRng) {
        if let Some(check) = &mut self.home.check
            && check.handle_datagram(datagram, now)
        {
            self.drive_check(now, rng);
        }
    }

    /// The datagram of [`netcheck::Action::Send`] was handed to the system, or refused by it.
    pub fn handle_probe_sent(&mut self, family: Family, ok: bool) {
        if let Some(check) = &mut self.home.check {
            check.handle_sent(family, ok);
        }
    }

    /// The answer to [`netcheck::Action::Resolve`].
    pub fn handle_resolved(
        &mut self,
        probe: ProbeId,
        ip: Option<IpAddr>,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) {
        if let Some(check) = &mut self.home.check {
            check.handle_resolved(probe, ip);
            self.drive_check(now, rng);
        }
    }

    /// One answer to [`netcheck::Action::MeasureHttps`].
    pub fn handle_https(
        &mut self,
        region: u16,
        answer: Option<(Duration, IpAddr)>,
        now: Instant,
        rng: &mut dyn CryptoRng,
    ) {
        if let Some(check) = &mut self.home.check {
            check.handle_https(region, answer);
            self.drive_check(now, rng);
        }
    }

    /// Any frame came by a link. Calling this once per batch is enough.
    pub fn note_frame(&mut self, link: LinkId, now: Instant) {
        self.links.note_frame(link, now);
    }

    /// Wants a measurement because a relay failed.
    pub(crate) fn measure_after_failure(&mut self, now: Instant) {
        let at = self.home.started.map_or(now, |at| at + AFTER_FAILURE);
        self.home.want(at.max(now));
    }

    /// Wants a measurement if the last one is too old for a node with traffic.
    pub(crate) fn measure_if_stale(&mut self, now: Instant) {
        let pause = WHILE_ACTIVE + self.home.spread;
        let fresh = |at: Instant| now.since(at) < pause;
        if !self.home.started.is_some_and(fresh) {
            self.home.want(now);
        }
    }

    /// Starts a measurement if one is due and none runs.
    pub(crate) fn measure(&mut self, now: Instant, rng: &mut dyn CryptoRng) {
        let due = self.home.due.is_some_and(|at| at <= now);
        if !due || self.home.check.is_some() || !self.may_have_links() {
            return;
        }
        let Some(map) = self.derp_map.clone() else {
            return;
        };
        let full = self.home.last_full_is_old(now);
        if full {
            self.home.full_at = Some(now);
        }
        let options = CheckOptions {
            interfaces: Interfaces {
                v6: self.home.interfaces.v6 && self.home.have_v6,
                ..self.home.interfaces
            },
            os_has_ipv6: self.home.interfaces.v6,
            last: self.home.last.as_ref().filter(|_| !full),
            home: Some(self.home.region).filter(|region| *region != 0),
            only_tcp_443: false,
            only_stun: false,
        };
        let check = Check::start(map, &options, now);
        self.home.due = None;
        self.home.started = Some(now);
        self.home.spread = SPREAD * (rng.next_u32() % 1001) / 1000;
        self.home.check = Some(check);
    }

    /// Moves the running measurement on, and takes its report.
    pub(crate) fn drive_check(&mut self, now: Instant, rng: &mut dyn CryptoRng) {
        let Some(check) = &mut self.home.check else {
            return;
        };
        while let Some(action) = check.poll_action(now, rng) {
            self.outputs.push_back(Output::Probe(action));
        }
        let started = check.started();
        if let Some(report) = check.poll_report(now) {
            self.home.check = None;
            self.take_report(report, started, now);
            self.send_waiting_calls(now, rng);
        }
    }

    fn take_report(&mut self, mut report: Report, started: Instant, now: Instant) {
        let Some(map) = self.derp_map.clone() else {
            return;
        };
        let links = &self.links;
        let heard = |region: u16| links.last_frame(region);
        self.home
            .picker
            .choose(&mut report, &map, &heard, started, now);
        self.take_preferred(report.preferred_derp, now);
        report.preferred_derp = Some(self.home.region).filter(|region| *region != 0);
        self.home.last = Some(report.clone());
        if self.endpoints.refresh(&report, now) {
            let endpoints = self.endpoints.current().to_vec();
            self.outputs.push_back(Output::EndpointsChanged(endpoints));
        }
        self.outputs.push_back(Output::Report(Box::new(report)));
    }

    fn take_preferred(&mut self, preferred: Option<u16>, now: Instant) {
        let current = Some(self.home.region).filter(|region| *region != 0);
        if current.is_some() && !self.home.streaming {
            return;
        }
        let Some(map) = self.derp_map.as_deref() else {
            return;
        };
        let choice = preferred.or_else(|| netcheck::fallback_home(map, current, self.home.seed));
        if let Some(region) = choice.filter(|region| map.regions.contains_key(region)) {
            self.set_home(region, now);
        }
    }
}
