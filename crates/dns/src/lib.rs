//! MagicDNS without its sockets: questions are read, what is the tailnet's is answered, and for the rest it is decided who is asked and
//! whose answer counts.
//!
//! [`look_up`] decides about one question; [`Race`] carries a question to several servers. The wire format ([`Query`],
//! [`Response`], [`Name`]) is RFC 1035 with EDNS(0) (RFC 6891). What is answered how is the originals' `net/dns/resolver`.
//!
//! Not here: sockets, the machine's own resolver, what the tailnet's settings mean for it.

mod local;
mod message;
mod name;
mod race;
mod server;
mod zones;

pub use local::{Lookup, Names, look_up};
pub use message::{Answer, BadQuery, Kind, MAX_UDP, Query, Rcode, Response, limit};
pub use name::{BadName, Name};
pub use race::{Attempt, Race, Transport};
pub use server::{Entrant, PORT, Server, entrants};
pub use zones::{Zones, reverse_zones};

#[cfg(test)]
mod tests;
