//! Our static key, and what can be told from an initiation with nothing else.

use std::sync::Arc;

use keys::{NodePrivate, NodePublic};

use crate::crypto::{Secret, hash, kdf, mac, open_once};
use crate::handshake::{HandshakeError, INITIAL, Transcript};
use crate::message::Initiation;
use crate::timestamp::Stamper;

/// Our static key with what is derived from it once. Shared by all peers.
pub struct Identity {
    private: NodePrivate,
    public: NodePublic,
    pub(crate) macs: MacKeys,
    pub(crate) stamper: Stamper,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

/// The two keys that come from the public key of a handshake message's receiver. They keep out those who do not know
/// whom they talk to, and are no secret.
#[derive(Clone)]
pub(crate) struct MacKeys {
    pub(crate) mac1: [u8; 32],
    pub(crate) cookie: [u8; 32],
}

impl MacKeys {
    pub(crate) fn new(receiver: &NodePublic) -> Self {
        Self {
            mac1: hash(&[b"mac1----", receiver.as_bytes()]),
            cookie: hash(&[b"cookie--", receiver.as_bytes()]),
        }
    }

    /// The first authenticator, over all of the message before it.
    pub(crate) fn mac1(&self, covered: &[u8]) -> [u8; 16] {
        mac(&self.mac1, &[covered])
    }
}

/// An initiation whose sender's static key is known; that the sender holds it is not yet proven.
///
/// Nothing has been allocated for it. Look the key up, make or find the [`Peer`](crate::Peer), and give it this.
pub struct Opened {
    /// Whose initiation it claims to be.
    pub peer: NodePublic,
    pub(crate) sender: u32,
    pub(crate) ephemeral: [u8; 32],
    pub(crate) sealed_timestamp: [u8; 28],
    pub(crate) transcript: Transcript,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("peer", &self.peer)
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Takes our static key.
    pub fn new(private: NodePrivate) -> Arc<Self> {
        let public = private.public();
        Arc::new(Self {
            macs: MacKeys::new(&public),
            private,
            public,
            stamper: Stamper::default(),
        })
    }

    /// Our public key.
    pub fn public(&self) -> NodePublic {
        self.public
    }

    /// Learns who sent an initiation. Costs one Diffie-Hellman: ask the [`Gate`](crate::Gate) first.
    pub fn open_initiation(&self, message: &Initiation<'_>) -> Result<Opened, HandshakeError> {
        let ephemeral = message.ephemeral();
        let mut transcript = INITIAL.start(&self.public);
        transcript.mix_hash(&ephemeral);
        transcript.mix_key(&ephemeral);
        let shared = self.agree(&ephemeral).ok_or(HandshakeError::BadKey)?;
        let key = transcript.mix_key_and_derive(shared.as_slice());
        let sealed = message.sealed_static();
        let peer = open_once(&key, &transcript.hash, &sealed).ok_or(HandshakeError::Forged)?;
        transcript.mix_hash(&sealed);
        Ok(Opened {
            peer: NodePublic::from_bytes(peer),
            sender: message.sender(),
            ephemeral,
            sealed_timestamp: message.sealed_timestamp(),
            transcript,
        })
    }

    pub(crate) fn agree(&self, public: &[u8; 32]) -> Option<Secret> {
        keys::shared_secret(self.private.expose_bytes(), public)
    }
}

impl Transcript {
    /// MixKey that also yields the key for the next sealed field.
    pub(crate) fn mix_key_and_derive(&mut self, input: &[u8]) -> Secret {
        let [chain, key] = kdf(&self.chain, input);
        self.chain = chain;
        key
    }
}
