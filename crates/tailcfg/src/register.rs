//! `POST /machine/register`.

use keys::{LockPublic, NodePublic};

use crate::go::{Bytes, GoTime, RawJson, Secret};
use crate::{Hostinfo, Login, User, wire};

wire! {
    /// Proof that the node may join (`tailcfg.RegisterResponseAuth`).
    pub struct RegisterAuth {
        /// An OAuth token, from clients of identity providers.
        "Oauth2Token" ? oauth2_token: Option<RawJson>,
        /// A pre-authorisation key.
        "AuthKey" ? auth_key: Secret,
    }

    /// A node asks to join, confirms itself, rotates its key or logs out (`tailcfg.RegisterRequest`).
    pub struct RegisterRequest {
        /// [`CAP`](crate::CAP).
        "Version" = version: i32,
        /// The key to register.
        "NodeKey" = node_key: NodePublic,
        /// The key that it replaces, or zero.
        "OldNodeKey" = old_node_key: NodePublic,
        /// Public half of the tailnet lock key.
        "NLKey" = nl_key: LockPublic,
        /// Proof, if there is any.
        "Auth" ? auth: Option<Box<RegisterAuth>>,
        /// Zero; in the past to log out; an earlier time to shorten the key's life.
        "Expiry" = expiry: GoTime,
        /// The login page handed out before: hold the answer until somebody used it.
        "Followup" = followup: String,
        /// The machine.
        "Hostinfo" = hostinfo: Option<Box<Hostinfo>>,
        /// Whether the node shall vanish when it goes offline.
        "Ephemeral" ? ephemeral: bool,
        /// Tailnet lock signature of the node key.
        "NodeKeySignature" = node_key_signature: Bytes,
        /// How the machine signed the request (enrolment of Windows devices only).
        "SignatureType" ? signature_type: String,
        /// When it did.
        "Timestamp" ? timestamp: Option<GoTime>,
        /// With which certificate.
        "DeviceCert" ? device_cert: Bytes,
        /// The signature.
        "Signature" ? signature: Bytes,
        /// Which tailnet is meant.
        "Tailnet" ? tailnet: String,
    }

    /// The answer (`tailcfg.RegisterResponse`).
    pub struct RegisterResponse {
        /// Whose node it is.
        "User" = user: User,
        /// The login behind it.
        "Login" = login: Login,
        /// The key has run out: make a new one and try again.
        "NodeKeyExpired" = node_key_expired: bool,
        /// Whether an administrator approved the machine. Not a condition for being logged in.
        "MachineAuthorized" = machine_authorized: bool,
        /// Where the user must log in; empty if nothing is left to do.
        "AuthURL" = auth_url: String,
        /// A tailnet lock signature that the node must sign over.
        "NodeKeySignature" = node_key_signature: Bytes,
        /// What went wrong, for people.
        "Error" = error: String,
    }
}
