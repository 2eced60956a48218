//! Network namespaces with an internet between them, made by netlink, without other programs. Needs root.
//!
//! A [`World`] is an internet: a namespace with a bridge, where servers listen on [`World::SERVERS`]. A [`Site`] is a node's
//! network: on the internet itself, or behind a router that is a NAT of some [`Nat`] kind. Namespaces have no names and end with
//! the last process and handle in them, so nothing is left behind, whatever happens.

mod etc;
mod space;
mod system;
mod wire;
mod world;

#[cfg(test)]
mod tests;

pub use space::Netns;
pub use system::{Init, System};
pub use wire::add_cable;
pub use world::{Nat, Site, World};
