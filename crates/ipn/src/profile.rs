//! Logins that this daemon knows, one of them current (`_profiles` in the state file).

use tailcfg::UserProfile;
use tailcfg::go::GoTime;
use tailcfg::wire;

wire! {
    /// One login (`ipn.LoginProfile`).
    pub struct LoginProfile {
        /// Four hex digits; empty if it was never saved.
        "ID" = id: String,
        /// What the user calls it, else the login name.
        "Name" = name: String,
        /// The tailnet.
        "NetworkProfile" = network_profile: NetworkProfile,
        /// The key of its prefs in the store.
        "Key" = key: String,
        /// Who logged in.
        "UserProfile" = user_profile: UserProfile,
        /// The node's stable id.
        "NodeID" = node_id: String,
        /// The local user that it belongs to (Windows).
        "LocalUserID" = local_user_id: String,
        /// The control server.
        "ControlURL" = control_url: String,
        /// When it was made; zero if an older daemon made it.
        "Created" ? created: GoTime,
    }

    /// What is kept of the tailnet of a login.
    pub struct NetworkProfile {
        /// Suffix of the names in it.
        "MagicDNSName" = magic_dns_name: String,
        /// Domain.
        "DomainName" = domain_name: String,
        /// Name for people.
        "DisplayName" = display_name: String,
    }
}

impl NetworkProfile {
    /// The name for people, else the domain.
    pub fn display_name_or_default(&self) -> &str {
        if self.display_name.is_empty() {
            &self.domain_name
        } else {
            &self.display_name
        }
    }
}
