//! Which relay regions have a link, and for how much longer.

use std::collections::BTreeMap;
use std::time::Duration;

use host::Instant;

/// A link without a write for this long is closed, unless it leads home (`derpInactiveCleanupTime`).
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// How often idle links are looked for while one is open that may become idle (`derpCleanStaleInterval`).
pub(crate) const SWEEP: Duration = Duration::from_secs(15);

/// One opening of a link to a region. Never used again, so that what a closed link still says is recognised as stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    last_write: Instant,
    last_frame: Option<Instant>,
}

/// The open links, at most one per region.
#[derive(Debug, Default)]
pub(crate) struct Links {
    by_region: BTreeMap<u16, Link>,
    opened: u64,
    sweep_at: Option<Instant>,
}

impl Links {
    pub(crate) fn get(&self, region: u16) -> Option<LinkId> {
        self.by_region.get(&region).map(|link| link.id)
    }

    pub(crate) fn region_of(&self, id: LinkId) -> Option<u16> {
        let found = self.by_region.iter().find(|(_, link)| link.id == id);
        found.map(|(region, _)| *region)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, LinkId)> + '_ {
        self.by_region
            .iter()
            .map(|(region, link)| (*region, link.id))
    }

    pub(crate) fn open(&mut self, region: u16, now: Instant) -> LinkId {
        self.opened += 1;
        let id = LinkId(self.opened);
        let link = Link {
            id,
            last_write: now,
            last_frame: None,
        };
        self.by_region.insert(region, link);
        // A sweep that is due soon must not be put off by every new link.
        self.sweep_at.get_or_insert(now + SWEEP);
        id
    }

    pub(crate) fn close(&mut self, region: u16) -> Option<LinkId> {
        self.by_region.remove(&region).map(|link| link.id)
    }

    pub(crate) fn note_write(&mut self, region: u16, now: Instant) {
        if let Some(link) = self.by_region.get_mut(&region) {
            link.last_write = now;
        }
    }

    pub(crate) fn note_frame(&mut self, id: LinkId, now: Instant) {
        if let Some(link) = self.by_region.values_mut().find(|link| link.id == id) {
            link.last_frame = Some(now);
        }
    }

    pub(crate) fn last_frame(&self, region: u16) -> Option<Instant> {
        self.by_region.get(&region)?.last_frame
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.sweep_at
    }

    /// Regions to close now. The timer goes on only while a link is open that is not the home.
    pub(crate) fn sweep(&mut self, home: u16, now: Instant) -> Vec<u16> {
        if self.sweep_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let others = || self.by_region.iter().filter(|(region, _)| **region != home);
        let idle: Vec<u16> = others()
            .filter(|(_, link)| now.since(link.last_write) > IDLE)
            .map(|(region, _)| *region)
            .collect();
        let more = others().count() > idle.len();
        self.sweep_at = more.then(|| now + SWEEP);
        idle
    }
}
