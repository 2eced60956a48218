//! Opening a TUN device.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{IntegerSetter, Opcode, Updater, ioctl};

/// `TUNSETIFF`: `_IOW('T', 202, int)`, though what is passed is a `struct ifreq`.
const TUNSETIFF: Opcode = 0x4004_54ca;
/// `TUNSETOFFLOAD`: `_IOW('T', 208, unsigned int)`, though what is passed is the number itself.
const TUNSETOFFLOAD: Opcode = 0x4004_54d0;
const IFF_TUN: u16 = 0x0001;
/// A `struct virtio_net_hdr` of 10 bytes before each packet.
const IFF_VNET_HDR: u16 = 0x4000;
/// No header of protocol information before each packet.
const IFF_NO_PI: u16 = 0x1000;
/// Each file that is attached is one of the device's queues.
const IFF_MULTI_QUEUE: u16 = 0x0100;
/// The room for a name, with a zero behind it.
const NAME_LEN: usize = 16;

/// `struct ifreq`: a name, then a union of 24 bytes, of which this request uses the first two.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_LEN],
    flags: u16,
    _rest: [u8; 22],
}

/// Opens `/dev/net/tun` and attaches it to the device with this name, which is made if there is none; `%d` in the name
/// stands for the first free number. Gives the device and its name. The device goes when the file is closed.
///
/// With `vnet_header`, each packet in either direction has the 10 bytes of a `struct virtio_net_hdr` before it. With `many_queues` it
/// can be opened more than once, for a queue each.
pub fn open_tun(name: &str, vnet_header: bool, many_queues: bool) -> io::Result<(OwnedFd, String)> {
    if name.is_empty() || name.len() >= NAME_LEN || name.bytes().any(|byte| byte == 0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("an interface name has 1 to {} bytes", NAME_LEN - 1),
        ));
    }
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device = open("/dev/net/tun", flags, Mode::empty())?;
    let mut request = InterfaceRequest {
        name: [0; NAME_LEN],
        flags: IFF_TUN
            | IFF_NO_PI
            | if vnet_header { IFF_VNET_HDR } else { 0 }
            | if many_queues { IFF_MULTI_QUEUE } else { 0 },
        _rest: [0; 22],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which is 40 bytes long on 64-bit systems and 32 on 32-bit ones:
    // not more than the value that is borrowed for the call.
    unsafe { ioctl(&device, Updater::<TUNSETIFF, _>::new(&mut request))? };
    let len = request.name.iter().position(|byte| *byte == 0);
    let name = String::from_utf8_lossy(&request.name[..len.unwrap_or(NAME_LEN)]).into_owned();
    Ok((device, name))
}

/// Tells the device what its reader can do itself (`TUN_F_*` of `linux/if_tun.h`): then its packets may be super-packets.
pub fn set_offloads(device: BorrowedFd<'_>, offloads: u32) -> io::Result<()> {
    // SAFETY: the kernel takes the number that stands in place of a pointer as it is, and follows it nowhere.
    unsafe {
        ioctl(
            device,
            IntegerSetter::<TUNSETOFFLOAD>::new_usize(offloads as usize),
        )
    }
    .map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_cannot_hold_are_refused() {
        for name in ["", "sixteen-letters!", "a\0b"] {
            let error = open_tun(name, false, false).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }
}
