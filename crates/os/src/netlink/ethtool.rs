//! What network devices can do, by the kernel's generic netlink (`linux/genetlink.h`, `linux/ethtool_netlink.h`).

use std::collections::BTreeSet;
use std::io;

use super::message::{DUMP, attributes, read_text, read_u16};
use super::{Netlink, Request};

/// The family that lists the families.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const NAME: &str = "ethtool";

const GET_FEATURES: u8 = 11;
const HEADER: u16 = 1;
const CHANGEABLE: u16 = 2;
const ACTIVE: u16 = 4;
/// Within the header.
const DEVICE_NAME: u16 = 2;
/// Within a set of bits: the bits, each with its name.
const BITS: u16 = 3;
const BIT_NAME: u16 = 2;
const VERSION: u8 = 1;
/// `struct genlmsghdr`: command u8, version u8, two bytes unused.
const GENERIC_HEADER: usize = 4;

/// The features of a device, by the names that `ethtool -k` shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Features {
    /// Those that are on.
    pub active: BTreeSet<String>,
    /// Those that can be turned on and off.
    pub changeable: BTreeSet<String>,
}

impl Netlink {
    /// The features of a device; `None` if there is no such device. The socket must be one of
    /// [`Protocol::Generic`](super::Protocol::Generic).
    pub fn features(&mut self, device: &str) -> io::Result<Option<Features>> {
        let family = self.family(NAME)?;
        let empty = Request::new(family, DUMP).fixed(&[GET_FEATURES, VERSION, 0, 0]);
        let request = empty.nest(HEADER, |header| header);
        let mut answers = self.dump(&request)?.into_iter();
        Ok(answers.find_map(|answer| {
            let body = answer.body.get(GENERIC_HEADER..)?;
            (device_of(body)? == device).then(|| read_features(body))
        }))
    }

    fn family(&mut self, name: &str) -> io::Result<u16> {
        let request = Request::new(CONTROL, DUMP).fixed(&[GET_FAMILY, VERSION, 0, 0]);
        let answers = self.dump(&request)?;
        let id = answers.iter().find_map(|answer| {
            let body = answer.body.get(GENERIC_HEADER..)?;
            let find = |wanted| attributes(body).find(|(kind, _)| *kind == wanted);
            let (_, found) = find(FAMILY_NAME)?;
            let (_, id) = find(FAMILY_ID)?;
            (read_text(found) == name).then(|| read_u16(id, 0))?
        });
        id.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "the kernel has no `ethtool`"))
    }
}

fn device_of(body: &[u8]) -> Option<String> {
    let (_, header) = attributes(body).find(|(kind, _)| *kind == HEADER)?;
    let (_, name) = attributes(header).find(|(kind, _)| *kind == DEVICE_NAME)?;
    Some(read_text(name))
}

fn read_features(body: &[u8]) -> Features {
    let names = |wanted: u16| {
        let sets = attributes(body).filter(move |(kind, _)| *kind == wanted);
        let bits = sets.flat_map(|(_, set)| attributes(set).filter(|(kind, _)| *kind == BITS));
        let bits = bits.flat_map(|(_, bits)| attributes(bits));
        bits.filter_map(|(_, bit)| {
            let (_, name) = attributes(bit).find(|(kind, _)| *kind == BIT_NAME)?;
            Some(read_text(name))
        })
        .collect()
    };
    Features {
        active: names(ACTIVE),
        changeable: names(CHANGEABLE),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Protocol;
    use super::*;

    /// Every system has this device, and it always has this.
    #[test]
    fn the_loopback_devices_features_are_listed() {
        let mut netlink = Netlink::open(Protocol::Generic).unwrap();
        let features = netlink.features("lo").unwrap().unwrap();
        assert!(features.active.contains("loopback"), "{features:?}");
        assert!(features.changeable.contains("tx-udp-segmentation"));
        assert_eq!(netlink.features("no-such-device").unwrap(), None);
    }
}
