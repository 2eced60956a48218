//! Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s with a zero pre-shared key: the transcript and both sides' steps.

use std::sync::LazyLock;

use keys::NodePublic;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::crypto::{Secret, hash, kdf, open_once, seal_once};
use crate::identity::{Identity, Opened};
use crate::message::{INITIATION, INITIATION_LEN, MACS_LEN, RESPONSE, RESPONSE_LEN, Response};
use crate::timestamp::Timestamp;

/// Why a handshake message was not accepted. None of these disturbs what goes on already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeError {
    /// An authenticator does not fit.
    Forged,
    /// A public key of low order.
    BadKey,
    /// An initiation that is not newer than the last one. Duplicates are ordinary: initiations travel over several
    /// paths at once.
    Replayed,
    /// Initiations of one peer in too quick succession.
    TooSoon,
    /// Nothing waits for this message.
    Unexpected,
    /// The message is for, or from, another peer.
    WrongPeer,
}

impl std::fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Forged => "handshake message is not authentic",
            Self::BadKey => "handshake message has an unusable key",
            Self::Replayed => "handshake initiation is replayed",
            Self::TooSoon => "handshake initiations come too quickly",
            Self::Unexpected => "no handshake waits for this message",
            Self::WrongPeer => "handshake message is another peer's",
        })
    }
}

impl std::error::Error for HandshakeError {}

/// Chaining key and hash.
#[derive(Clone)]
pub(crate) struct Transcript {
    pub(crate) chain: Secret,
    pub(crate) hash: [u8; 32],
}

/// The transcript before anything has been said; the same for everybody.
pub(crate) static INITIAL: LazyLock<Transcript> = LazyLock::new(|| {
    let chain = hash(&[b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"]);
    Transcript {
        hash: hash(&[&chain, b"WireGuard v1 zx2c4 Jason@zx2c4.com"]),
        chain: Zeroizing::new(chain),
    }
});

impl Transcript {
    /// A handshake begins with the responder's static key.
    pub(crate) fn start(&self, responder: &NodePublic) -> Self {
        let mut transcript = self.clone();
        transcript.mix_hash(responder.as_bytes());
        transcript
    }

    pub(crate) fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    pub(crate) fn mix_key(&mut self, input: &[u8]) {
        let [chain] = kdf(&self.chain, input);
        self.chain = chain;
    }

    /// The psk2 step, with the pre-shared key that Tailscale never sets; yields the key of the empty field.
    fn mix_psk(&mut self) -> Secret {
        let [chain, tau, key] = kdf(&self.chain, &[0; 32]);
        self.chain = chain;
        self.mix_hash(tau.as_slice());
        key
    }
}

/// An ephemeral key pair.
pub(crate) struct Ephemeral {
    private: Secret,
    pub(crate) public: [u8; 32],
}

impl Ephemeral {
    pub(crate) fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut private = Secret::default();
        rng.fill_bytes(private.as_mut_slice());
        private[0] &= 248;
        private[31] = (private[31] & 127) | 64;
        Self {
            public: keys::public_key(&private),
            private,
        }
    }

    fn agree(&self, public: &[u8; 32]) -> Option<Secret> {
        keys::shared_secret(&self.private, public)
    }
}

/// The keys of a finished handshake.
pub(crate) struct SessionKeys {
    pub(crate) send: Secret,
    pub(crate) receive: Secret,
    pub(crate) remote_index: u32,
}

/// An initiation of ours that has not been answered.
pub(crate) struct Initiated {
    pub(crate) local_index: u32,
    ephemeral: Ephemeral,
    transcript: Transcript,
}

/// Writes an initiation, without its authenticators. `static_static` is the secret between both static keys.
pub(crate) fn initiate(
    identity: &Identity,
    peer: &NodePublic,
    static_static: &Secret,
    stamp: &Timestamp,
    local_index: u32,
    rng: &mut dyn CryptoRng,
) -> Option<(Initiated, [u8; INITIATION_LEN])> {
    let ephemeral = Ephemeral::generate(rng);
    let mut transcript = INITIAL.start(peer);
    transcript.mix_hash(&ephemeral.public);
    transcript.mix_key(&ephemeral.public);

    let mut message = [0; INITIATION_LEN];
    message[0] = INITIATION;
    message[4..8].copy_from_slice(&local_index.to_le_bytes());
    message[8..40].copy_from_slice(&ephemeral.public);

    let shared = ephemeral.agree(peer.as_bytes())?;
    let key = transcript.mix_key_and_derive(shared.as_slice());
    let public = identity.public();
    seal_once(
        &key,
        &transcript.hash,
        public.as_bytes(),
        &mut message[40..88],
    );
    transcript.mix_hash(&message[40..88]);

    let key = transcript.mix_key_and_derive(static_static.as_slice());
    seal_once(&key, &transcript.hash, stamp, &mut message[88..116]);
    transcript.mix_hash(&message[88..116]);

    let initiated = Initiated {
        local_index,
        ephemeral,
        transcript,
    };
    Some((initiated, message))
}

/// Proves an initiation's sender and reads its timestamp. The transcript goes on in `opened`.
pub(crate) fn open_timestamp(
    opened: &mut Opened,
    static_static: &Secret,
) -> Result<Timestamp, HandshakeError> {
    let key = opened
        .transcript
        .mix_key_and_derive(static_static.as_slice());
    let stamp = open_once(&key, &opened.transcript.hash, &opened.sealed_timestamp)
        .ok_or(HandshakeError::Forged)?;
    let sealed = opened.sealed_timestamp;
    opened.transcript.mix_hash(&sealed);
    Ok(stamp)
}

/// Answers a proven initiation: the response without its authenticators, and the session's keys.
pub(crate) fn respond(
    opened: Opened,
    local_index: u32,
    rng: &mut dyn CryptoRng,
) -> Result<([u8; RESPONSE_LEN], SessionKeys), HandshakeError> {
    let mut transcript = opened.transcript;
    let ephemeral = Ephemeral::generate(rng);
    transcript.mix_hash(&ephemeral.public);
    transcript.mix_key(&ephemeral.public);
    for theirs in [&opened.ephemeral, opened.peer.as_bytes()] {
        let shared = ephemeral.agree(theirs).ok_or(HandshakeError::BadKey)?;
        transcript.mix_key(shared.as_slice());
    }
    let key = transcript.mix_psk();

    let mut message = [0; RESPONSE_LEN];
    message[0] = RESPONSE;
    message[4..8].copy_from_slice(&local_index.to_le_bytes());
    message[8..12].copy_from_slice(&opened.sender.to_le_bytes());
    message[12..44].copy_from_slice(&ephemeral.public);
    seal_once(&key, &transcript.hash, &[], &mut message[44..60]);

    let [receive, send] = kdf(&transcript.chain, &[]);
    let keys = SessionKeys {
        send,
        receive,
        remote_index: opened.sender,
    };
    Ok((message, keys))
}

impl Initiated {
    /// Finishes the handshake. Works on copies, so that a forged response leaves this one waiting.
    pub(crate) fn finish(
        &self,
        identity: &Identity,
        response: &Response<'_>,
    ) -> Result<SessionKeys, HandshakeError> {
        let mut transcript = self.transcript.clone();
        let theirs = response.ephemeral();
        transcript.mix_hash(&theirs);
        transcript.mix_key(&theirs);
        let shared = self.ephemeral.agree(&theirs);
        transcript.mix_key(shared.ok_or(HandshakeError::BadKey)?.as_slice());
        let shared = identity.agree(&theirs);
        transcript.mix_key(shared.ok_or(HandshakeError::BadKey)?.as_slice());
        let key = transcript.mix_psk();
        open_once::<0, 16>(&key, &transcript.hash, &response.sealed_empty())
            .ok_or(HandshakeError::Forged)?;
        let [send, receive] = kdf(&transcript.chain, &[]);
        Ok(SessionKeys {
            send,
            receive,
            remote_index: response.sender(),
        })
    }
}

/// Where the authenticators of a handshake message begin.
pub(crate) fn macs_at(message: &[u8]) -> usize {
    message.len().saturating_sub(MACS_LEN)
}
