//! Netlink: how Linux is told and asked about links, addresses, routes and rules.
//!
//! [`message`] is the pure codec, [`socket`] exchanges messages with the kernel, [`route`] has the objects, [`nft`] the
//! firewall, [`ethtool`] what devices can do.

pub mod ethtool;
pub mod message;
pub mod nft;
pub mod route;
pub mod socket;

pub use message::{Message, Request, attributes, messages};
pub use route::{Address, Link, Route, Rule};
pub use socket::{Netlink, Protocol};
