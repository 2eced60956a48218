//! Keys that let machines in without a person.

use aws_lc_rs::digest::{SHA256, digest};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use tailcfg::UserId;
use tailcfg::go::{GoTime, Secret};

use super::{Refused, Tailnet};

const PREFIX: &str = "tskey-auth-";
/// Random bytes in the public id and in the secret.
const ID_LEN: usize = 8;
const SECRET_LEN: usize = 24;

/// One key as it is kept: the secret itself is told once and then forgotten.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AuthKey {
    id: String,
    /// SHA-256 of the secret part, in hex.
    secret_hash: String,
    pub(super) user: UserId,
    pub(super) reusable: bool,
    pub(super) ephemeral: bool,
    pub(super) tags: Vec<String>,
    #[serde(default)]
    pub(super) preapproved: bool,
    /// Zero is never.
    expiry: GoTime,
    uses: u64,
}

/// What a new key shall be good for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewAuthKey {
    /// Whose nodes it makes; created if unknown. Empty is `lab`.
    pub user: String,
    /// Whether it can be used more than once.
    pub reusable: bool,
    /// Whether its nodes vanish when they are offline.
    pub ephemeral: bool,
    /// Tags of its nodes, each `tag:` and a name.
    pub tags: Vec<String>,
    /// Whether its nodes need no approval where machines do.
    pub preapproved: bool,
    /// How many seconds it is good for; `None` is for ever.
    pub expiry_secs: Option<u64>,
}

/// What the administrator sees of a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuthKeyInfo {
    /// Name by which it is expired.
    pub id: String,
    /// The key; only in the answer to its creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whose nodes it makes.
    pub user: String,
    /// Whether it can be used more than once.
    pub reusable: bool,
    /// Whether its nodes vanish when they are offline.
    pub ephemeral: bool,
    /// Tags of its nodes.
    pub tags: Vec<String>,
    /// Whether its nodes need no approval where machines do.
    #[serde(default)]
    pub preapproved: bool,
    /// Until when; zero is for ever.
    pub expiry: GoTime,
    /// How often it was used.
    pub uses: u64,
}

impl AuthKey {
    fn info(&self, user: &str) -> AuthKeyInfo {
        AuthKeyInfo {
            id: self.id.clone(),
            key: None,
            user: user.into(),
            reusable: self.reusable,
            ephemeral: self.ephemeral,
            tags: self.tags.clone(),
            preapproved: self.preapproved,
            expiry: self.expiry,
            uses: self.uses,
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

impl Tailnet {
    pub(crate) fn create_auth_key(
        &mut self,
        new: NewAuthKey,
        now: GoTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<AuthKeyInfo, Refused> {
        check_tag_names(&new.tags)?;
        let user = self.user_or_default(&new.user);
        let (id, secret) = (random_text::<ID_LEN>(rng), random_text::<SECRET_LEN>(rng));
        let expiry = new.expiry_secs.map(|secs| {
            let nanos = i128::from(secs) * 1_000_000_000;
            GoTime::from_unix_nanos(now.unix_nanos() + nanos)
        });
        let key = AuthKey {
            id: id.clone(),
            secret_hash: hash(&secret),
            user,
            reusable: new.reusable,
            ephemeral: new.ephemeral,
            tags: new.tags,
            preapproved: new.preapproved,
            expiry: expiry.unwrap_or_default(),
            uses: 0,
        };
        let info = AuthKeyInfo {
            key: Some(format!("{PREFIX}{id}-{secret}")),
            ..key.info(self.user_name(user))
        };
        self.auth_keys.insert(id, key);
        Ok(info)
    }

    pub(crate) fn auth_keys(&self) -> Vec<AuthKeyInfo> {
        let keys = self.auth_keys.values();
        keys.map(|key| key.info(self.user_name(key.user))).collect()
    }

    pub(crate) fn expire_auth_key(&mut self, id: &str, now: GoTime) -> Result<(), Refused> {
        let key = self.auth_keys.get_mut(id).ok_or(Refused::NoSuchAuthKey)?;
        key.expiry = now;
        Ok(())
    }

    /// The key that the text proves, if it may still be used.
    pub(super) fn check_auth_key(
        &self,
        text: &Secret,
        now: GoTime,
    ) -> Result<AuthKey, &'static str> {
        const INVALID: &str = "invalid auth key";
        let (id, secret) = text
            .expose()
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-'))
            .ok_or(INVALID)?;
        let key = self.auth_keys.get(id).ok_or(INVALID)?;
        if !bool::from(hash(secret).as_bytes().ct_eq(key.secret_hash.as_bytes())) {
            return Err(INVALID);
        }
        if !key.expiry.is_zero() && key.expiry <= now {
            return Err("auth key has expired");
        }
        if !key.reusable && key.uses > 0 {
            return Err("auth key has already been used");
        }
        Ok(key.clone())
    }

    pub(super) fn note_use(&mut self, id: &str) {
        if let Some(key) = self.auth_keys.get_mut(id) {
            key.uses += 1;
        }
    }
}

/// Refuses what is no tag.
pub(super) fn check_tag_names(tags: &[String]) -> Result<(), Refused> {
    match tags.iter().find(|tag| !is_tag(tag)) {
        Some(bad) => Err(Refused::Invalid(format!("`{bad}` is no tag"))),
        None => Ok(()),
    }
}

/// `tag:`, a letter, then letters, digits and dashes.
fn is_tag(text: &str) -> bool {
    text.strip_prefix("tag:").is_some_and(|name| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

pub(super) fn random_text<const N: usize>(rng: &mut dyn CryptoRng) -> String {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    let mut text = String::new();
    keys::encode_hex(&bytes, &mut text);
    text
}

fn hash(secret: &str) -> String {
    let mut text = String::new();
    keys::encode_hex(digest(&SHA256, secret.as_bytes()).as_ref(), &mut text);
    text
}
