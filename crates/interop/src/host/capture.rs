//! What leaves a machine by its link.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use packet::{IpView, Proto};
use socket2::{Domain, Protocol, Socket, Type};

use super::machine::Machine;

/// `ETH_P_ALL`, as the kernel wants it.
const ALL_PROTOCOLS: i32 = 0x0003_u16.to_be() as i32;
/// Both addresses, and what is inside.
const ETHERNET: usize = 14;
const SOURCE: std::ops::Range<usize> = 6..12;
const LOOK_UP: Duration = Duration::from_millis(100);

/// A packet that left: whereto, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Left {
    pub(super) proto: Proto,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
}

/// Listens until it is told to stop.
pub(super) struct Capture {
    stop: Arc<AtomicBool>,
    listener: JoinHandle<BTreeSet<Left>>,
}

impl Capture {
    /// Listens to what the machine sends by `eth0`.
    pub(super) fn start(machine: &Machine) -> Result<Self> {
        let link = machine.sh("ip -o link show eth0")?;
        let (_, rest) = link
            .split_once("link/ether ")
            .context("eth0 is no Ethernet")?;
        let bytes = rest
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .split(':');
        let own: Vec<u8> = bytes
            .map(|byte| u8::from_str_radix(byte, 16))
            .collect::<Result<_, _>>()?;
        let socket = machine.site.node().run(|| {
            Socket::new(
                Domain::PACKET,
                Type::RAW,
                Some(Protocol::from(ALL_PROTOCOLS)),
            )
        })??;
        socket.set_read_timeout(Some(LOOK_UP))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let listener = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            let mut frame = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                let Ok(len) = std::io::Read::read(&mut &socket, &mut frame) else {
                    continue;
                };
                let frame = &frame[..len];
                // The socket hears all links; only frames of this one begin with its address.
                if frame.get(SOURCE) == Some(&own[..])
                    && let Ok(packet) = IpView::parse(&frame[ETHERNET..])
                {
                    seen.insert(Left {
                        proto: packet.proto(),
                        from: packet.src_addr(),
                        to: packet.dst_addr(),
                    });
                }
            }
            seen
        });
        Ok(Self { stop, listener })
    }

    /// Everything that left.
    pub(super) fn stop(self) -> Result<BTreeSet<Left>> {
        self.stop.store(true, Ordering::Relaxed);
        self.listener
            .join()
            .map_err(|_| anyhow!("the listener panicked"))
    }
}
