mod local;
mod message;
mod race;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::{Kind, Name, Names, Query, Rcode, Server, Zones};

/// Some names, and those that stand for all below them.
#[derive(Default)]
struct Known {
    hosts: BTreeMap<Name, Vec<IpAddr>>,
    below: Vec<Name>,
}

impl Known {
    fn with(mut self, name: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        self.hosts.insert(self::name(name), addresses);
        self
    }
}

impl Names for Known {
    fn addresses(&self, name: &Name) -> Option<Vec<IpAddr>> {
        self.hosts.get(name).cloned()
    }
    fn has_names_below(&self, name: &Name) -> bool {
        self.below.contains(name)
    }
    fn name_of(&self, address: IpAddr) -> Option<Name> {
        let mut hosts = self.hosts.iter();
        let found = hosts.find(|(_, addresses)| addresses.contains(&address));
        found.map(|(name, _)| name.clone())
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn server(last: u8) -> Server {
    Server::Plain(([192, 0, 2, last], 53).into())
}

fn zones() -> Zones {
    let mut zones = Zones::default();
    zones.set_own(name("tail1.ts.net"));
    for zone in crate::reverse_zones() {
        zones.set_own(zone);
    }
    zones.set(name("corp.example"), vec![server(1)]);
    zones.set(name("deep.corp.example"), vec![server(2), server(3)]);
    zones.set(name("mute.example"), Vec::new());
    zones.set(Name::root(), vec![server(9)]);
    zones
}

/// What a reply says: how it went, answers and authorities, and the data of the first record.
fn read(reply: &[u8], query: &Query) -> (Rcode, u16, u16, Vec<u8>) {
    let half = |at: usize| u16::from_be_bytes([reply[at], reply[at + 1]]);
    assert_eq!(
        half(0),
        u16::from_be_bytes([query.bytes()[0], query.bytes()[1]])
    );
    // An answer, by an authority, and recursion is what it was asked for.
    assert_eq!(half(2) & 0xff80, 0x8580);
    assert_eq!(half(4), 1);
    let (asked, at) = Name::read(reply, 12).unwrap();
    assert_eq!((asked, Kind(half(at))), (query.name.clone(), query.kind));
    let mut data = Vec::new();
    if half(6) + half(8) > 0 {
        let (_, at) = Name::read(reply, at + 4).unwrap();
        data = reply[at + 10..at + 10 + usize::from(half(at + 8))].to_vec();
    }
    (Rcode((half(2) & 15) as u8), half(6), half(8), data)
}
