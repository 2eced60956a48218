//! What `dns-query` answers.

use serde::{Deserialize, Serialize};
use tailcfg::Resolver;
use tailcfg::go::Bytes;

/// An answer of the daemon's resolver (`apitype.DNSQueryResponse`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DnsAnswer {
    /// The message.
    pub bytes: Bytes,
    /// Who may have been asked; `None` if nobody is.
    pub resolvers: Option<Vec<Resolver>>,
}

impl DnsAnswer {
    /// A message, and the servers for its name.
    #[must_use]
    pub fn new(bytes: Vec<u8>, servers: &[String]) -> Self {
        let resolver = |server: &String| Resolver {
            addr: server.clone(),
            ..Resolver::default()
        };
        Self {
            bytes: Bytes(bytes),
            resolvers: (!servers.is_empty()).then(|| servers.iter().map(resolver).collect()),
        }
    }
}
