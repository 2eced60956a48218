//! Where the API for peers listens (the originals' `ipn/ipnlocal/peerapi.go`).

use std::net::{IpAddr, SocketAddr, TcpListener};

/// How many ports are tried for one address.
const TRIES: u8 = 5;
/// They are in the upper half.
const UPPER_HALF: u16 = 0x8000;

/// The port for an own address: the same from one start to the next, unless something else has it.
pub(super) fn port_of(ip: IpAddr, mut is_free: impl FnMut(u16) -> bool) -> u16 {
    let mut candidates = (0..TRIES).map(|round| candidate(ip, round));
    // Where all are taken, our own stack still has the packets before anybody else.
    let found = candidates.find(|port| is_free(*port));
    found.unwrap_or_else(|| candidate(ip, 0))
}

fn candidate(ip: IpAddr, round: u8) -> u16 {
    let octets = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let [.., a, b, c] = octets;
    let hash = crc32(&[a.wrapping_add(round), b, c]);
    UPPER_HALF | (hash & 0xffff) as u16
}

/// CRC-32 of IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let step = |crc: u32| crc >> 1 ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}

/// Whether nothing of this machine listens on a port everywhere: its callers from the tailnet would be ours.
pub(super) fn is_free(v6: bool, port: u16) -> bool {
    let loopback: IpAddr = match v6 {
        true => std::net::Ipv6Addr::LOCALHOST.into(),
        false => std::net::Ipv4Addr::LOCALHOST.into(),
    };
    let bound = TcpListener::bind(SocketAddr::new(loopback, port));
    bound.map_or_else(
        |error| error.kind() != std::io::ErrorKind::AddrInUse,
        |_| true,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, taken: &[u16]) -> u16 {
        port_of(ip.parse().unwrap(), |port| !taken.contains(&port))
    }

    /// Ports at which the originals listen.
    #[test]
    fn ports_are_the_originals() {
        for (ip, expected) in [
            ("100.64.0.1", 58436),
            ("100.101.102.103", 59395),
            ("100.68.82.120", 47830),
            ("fd7a:115c:a1e0::1", 59780),
            ("fd7a:115c:a1e0:ab12:4843:cd96:6265:6667", 59395),
        ] {
            assert_eq!(port(ip, &[]), expected, "{ip}");
        }
        let mut taken = Vec::new();
        for expected in [58436, 36467, 45098, 55837, 52376, 58436] {
            let found = port("100.64.0.1", &taken);
            assert_eq!(found, expected);
            taken.push(found);
        }
    }

    #[test]
    fn who_listens_everywhere_keeps_a_port() {
        let other = TcpListener::bind("0.0.0.0:0").unwrap();
        let taken = other.local_addr().unwrap().port();
        assert!(!is_free(false, taken));
        drop(other);
        assert!(is_free(false, taken));
    }
}
