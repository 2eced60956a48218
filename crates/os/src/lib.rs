//! Implements the host traits on a real machine.
//!
//! One folder or file per concern. What a system lacks is said by an error, never by pretending. The one invariant:
//! nothing above floor 5 but a binary names this crate; the node gets its parts handed in as traits.

#[cfg(target_os = "linux")]
pub mod dns;
pub mod facts;
#[cfg(target_os = "linux")]
pub mod forwarding;
#[cfg(unix)]
pub mod init;
pub mod lifeline;
#[cfg(target_os = "linux")]
pub mod links;
pub mod logid;
#[cfg(target_os = "linux")]
pub mod netlink;
pub mod paths;
pub mod process;
#[cfg(target_os = "linux")]
pub mod router;
pub mod store;
pub mod syslog;
pub mod tun;
pub mod udp;
pub mod userspace;
