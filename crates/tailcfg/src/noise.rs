//! Keys for the control transport.

use keys::{ChallengePublic, MachinePublic};

use crate::wire;

wire! {
    /// The answer to `GET /key` (`tailcfg.OverTLSPublicKeyResponse`).
    pub struct OverTlsPublicKeyResponse {
        /// The key of the retired protocol; zero with servers that never spoke it.
        "legacyPublicKey" = legacy_public_key: MachinePublic,
        /// The server's Noise key.
        "publicKey" = public_key: MachinePublic,
    }

    /// What the server says before HTTP/2 starts (`tailcfg.EarlyNoise`).
    pub struct EarlyNoise {
        /// A key to prove possession of a node key against.
        "nodeKeyChallenge" = node_key_challenge: ChallengePublic,
    }
}
