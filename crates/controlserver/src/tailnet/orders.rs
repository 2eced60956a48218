//! What an administrator orders about nodes.

use ipnet::IpNet;
use tailcfg::go::GoTime;
use tailcfg::{CapMap, NodeId};

use super::auth_key::check_tag_names;
use super::{Refused, Tailnet};

impl Tailnet {
    /// Approves a machine, or takes the approval back.
    pub(crate) fn set_approved(&mut self, id: NodeId, approved: bool) -> Result<(), Refused> {
        self.edit(id, |node| node.approved = approved)
    }

    /// Sets when the node's key runs out; zero is never.
    pub(crate) fn set_key_expiry(&mut self, id: NodeId, expiry: GoTime) -> Result<(), Refused> {
        self.edit(id, |node| node.key_expiry = expiry)
    }

    /// Sets the tags. A node without tags is its user's again.
    pub(crate) fn set_tags(&mut self, id: NodeId, tags: Vec<String>) -> Result<(), Refused> {
        check_tag_names(&tags)?;
        self.edit(id, |node| node.tags = tags)
    }

    /// Gives the node a name that its host cannot change; an empty one takes it back.
    pub(crate) fn set_name(&mut self, id: NodeId, name: &str) -> Result<(), Refused> {
        let node = self.nodes.get(&id).ok_or(Refused::NoSuchNode)?;
        if name.is_empty() {
            let hostname = node.hostname.clone();
            self.edit(id, |node| {
                node.is_named = false;
                // So that it is looked for anew.
                node.hostname.clear();
            })?;
            self.rename(id, &hostname);
            return Ok(());
        }
        if netmap::sanitize_hostname(name) != name {
            return Err(Refused::Invalid(format!(
                "`{name}` is no name: use small letters, digits and dashes"
            )));
        }
        if self.index.by_label(name).is_some_and(|other| other != id) {
            return Err(Refused::Invalid(format!("`{name}` is another node's name")));
        }
        self.edit(id, |node| {
            node.is_named = true;
            name.clone_into(&mut node.label);
        })
    }

    /// Sets the node's attributes, the capabilities that it has for itself.
    pub(crate) fn set_attributes(&mut self, id: NodeId, attributes: CapMap) -> Result<(), Refused> {
        self.edit(id, |node| node.attributes = attributes)
    }

    /// Says whether the others let nothing in that the node begins.
    pub(crate) fn set_jailed(&mut self, id: NodeId, jailed: bool) -> Result<(), Refused> {
        self.edit(id, |node| node.jailed = jailed)
    }

    /// Sets the subnets that may be routed to the node; those that it also advertises are.
    pub(crate) fn set_routes(&mut self, id: NodeId, routes: Vec<IpNet>) -> Result<(), Refused> {
        if let Some(bad) = routes.iter().find(|route| route.trunc() != **route) {
            return Err(Refused::Invalid(format!(
                "`{bad}` has bits behind its prefix"
            )));
        }
        self.edit(id, |node| node.routes = routes)
    }
}
