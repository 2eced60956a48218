//! The TUN device.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod vnet;

#[cfg(target_os = "linux")]
pub use linux::{Device, Error, diagnose, open, open_with_queues};

/// The MTU if nothing else is asked for: what passes nearly everywhere inside of WireGuard.
pub const DEFAULT_MTU: u32 = 1280;

/// The longest packet that any device takes.
pub const MAX_MTU: u32 = 65_536;

/// What `TS_DEBUG_MTU` asks for.
///
/// Compat: what is no number counts for nothing, and what is too large for the largest, as in the originals.
pub fn mtu(debug_mtu: Option<&str>) -> u32 {
    match debug_mtu.and_then(|text| text.parse().ok()) {
        None | Some(0) => DEFAULT_MTU,
        Some(mtu) => MAX_MTU.min(mtu),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mtu_can_be_set() {
        assert_eq!(mtu(None), 1280);
        assert_eq!(mtu(Some("1400")), 1400);
        assert_eq!(mtu(Some("100000")), 65_536);
        assert_eq!(mtu(Some("0")), 1280);
    }
}
