//! People.

use crate::go::GoTime;
use crate::{CapMap, Node, UserId, wire};

wire! {
    /// A user (`tailcfg.User`).
    pub struct User {
        /// Number.
        "ID" = id: UserId,
        /// Name for people.
        "DisplayName" = display_name: String,
        /// Picture.
        "ProfilePicURL" ? profile_pic_url: String,
        /// When the account was made.
        "Created" ? created: GoTime,
    }

    /// How a user logged in (`tailcfg.Login`).
    pub struct Login {
        /// Number.
        "ID" = id: i64,
        /// Identity provider.
        "Provider" = provider: String,
        /// Usually a mail address.
        "LoginName" = login_name: String,
        /// Name for people.
        "DisplayName" = display_name: String,
        /// Picture.
        "ProfilePicURL" ? profile_pic_url: String,
    }

    /// What others may see of a user (`tailcfg.UserProfile`).
    pub struct UserProfile {
        /// Number.
        "ID" = id: UserId,
        /// Usually a mail address.
        "LoginName" = login_name: String,
        /// Name for people.
        "DisplayName" = display_name: String,
        /// Picture.
        "ProfilePicURL" ? profile_pic_url: String,
        /// Groups, where the server tells them.
        "Groups" ? groups: Vec<String>,
    }

    /// Who is behind an address (`apitype.WhoIsResponse`).
    pub struct WhoIsResponse {
        /// The node.
        "Node" = node: Option<Box<Node>>,
        /// Its user.
        "UserProfile" = user_profile: Option<UserProfile>,
        /// What it may do here.
        "CapMap" = cap_map: Option<CapMap>,
    }
}
