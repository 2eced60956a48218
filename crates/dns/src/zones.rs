//! Who is asked for what.

use std::collections::BTreeMap;

use crate::{Name, Server};

/// Who is asked for names below a suffix. Some suffixes are ours: what we do not know there does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Zones(BTreeMap<Name, Option<Vec<Server>>>);

impl Zones {
    /// Nobody else is asked for what is below `suffix`.
    pub fn set_own(&mut self, suffix: Name) {
        self.0.insert(suffix, None);
    }

    /// Whom to ask for what is below `suffix`; the root is all that no other suffix has. Without servers there is no answer.
    pub fn set(&mut self, suffix: Name, servers: Vec<Server>) {
        self.0.insert(suffix, Some(servers));
    }

    /// Whom to ask for `name`, by its longest suffix; nobody, if that is ours or there is none.
    #[must_use]
    pub fn servers(&self, name: &Name) -> &[Server] {
        let mut zones = self.above(name);
        let servers = zones.next().and_then(|(_, servers)| servers.as_deref());
        servers.unwrap_or_default()
    }

    /// The most special suffix of `name` that is ours.
    #[must_use]
    pub fn own(&self, name: &Name) -> Option<&Name> {
        let mut zones = self.above(name);
        zones.find_map(|(suffix, servers)| servers.is_none().then_some(suffix))
    }

    /// Those that `name` is under, the longest first.
    fn above(&self, name: &Name) -> impl Iterator<Item = (&Name, &Option<Vec<Server>>)> {
        let names = std::iter::successors(Some(name.clone()), Name::parent);
        names.filter_map(|name| self.0.get_key_value(&name))
    }
}

/// The zones in which the names of Tailscale's addresses are: 100.64.0.0/10, and fd7a:115c:a1e0::/48.
pub fn reverse_zones() -> impl Iterator<Item = Name> {
    let v4 = (64..128).map(|second| format!("{second}.100.in-addr.arpa"));
    let v6 = std::iter::once("0.e.1.a.c.5.1.1.a.7.d.f.ip6.arpa".to_owned());
    v4.chain(v6).filter_map(|zone| zone.parse().ok())
}
