//! What `dns-query`, `dns-osconfig` and `suggest-exit-node` answer.

use serde::{Deserialize, Serialize};
use tailcfg::go::Bytes;
use tailcfg::{Location, Resolver};

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

/// The machine's resolver without us (`apitype.DNSOSConfig`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DnsSystem {
    /// Who is asked.
    pub nameservers: Vec<String>,
    /// What is tried behind short names.
    pub search_domains: Vec<String>,
    /// What these servers are for, if not for all.
    pub match_domains: Vec<String>,
}

/// The exit node that would be best (`apitype.ExitNodeSuggestionResponse`); all empty if there is none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SuggestedExitNode {
    /// Which.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its full name.
    #[serde(rename = "Name")]
    pub name: String,
    /// Where it is, if it says so.
    #[serde(rename = "Location", skip_serializing_if = "Option::is_none")]
    pub location: Option<Box<Location>>,
}

/// Something of the machine that is not as it is wanted: one of what `system-diff` answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SystemDifference {
    /// Of what: `routing`, `firewall`, `dns`.
    pub part: String,
    /// What would be done about it.
    pub step: String,
    /// Where it comes from, if from a peer.
    pub why: String,
}
