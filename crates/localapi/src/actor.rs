//! Who is on the other end, and what they may do.

use transport::server::Credentials;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Nothing is checked.
    Open,
    /// Look.
    Read,
    /// Change.
    Write,
}

/// Somebody with an open connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    /// The local user, if the kernel says.
    pub uid: Option<u32>,
    /// The process, if the kernel says.
    pub pid: Option<i32>,
    /// What they may do.
    pub right: Right,
}

impl Actor {
    /// Everybody may look. Root, the daemon's own user and the operator may change; so nobody may whom the kernel does
    /// not name.
    pub fn new(peer: Option<Credentials>, own_uid: u32, operator_uid: Option<u32>) -> Self {
        let uid = peer.map(|peer| peer.uid);
        let may_write = uid.is_some_and(|uid| {
            uid == 0 || (own_uid != 0 && uid == own_uid) || operator_uid == Some(uid)
        });
        Self {
            uid,
            pid: peer.and_then(|peer| peer.pid),
            right: if may_write { Right::Write } else { Right::Read },
        }
    }
}
