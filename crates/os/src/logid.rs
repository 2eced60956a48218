//! The identity under which logs are filed, `tailscaled.log.conf` of the originals. Control wants its public half
//! (`Hostinfo.BackendLogID`) even where nothing is uploaded.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

const FILE: &str = "tailscaled.log.conf";
const COLLECTION: &str = "tailnode.log.tailscale.io";

/// A log identity: who knows the private half may write to the log.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LogId {
    collection: String,
    #[serde(rename = "PrivateID")]
    private_id: String,
    #[serde(rename = "PublicID")]
    public_id: String,
}

impl std::fmt::Debug for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogId({})", self.public_id)
    }
}

impl LogId {
    fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        // Compat: the originals clamp it like a Curve25519 scalar, and refuse to read another.
        bytes[0] &= 0xf8;
        bytes[31] = (bytes[31] & 0x7f) | 0x40;
        Self {
            collection: COLLECTION.into(),
            private_id: hex(&bytes),
            public_id: hex(&public_half(&bytes)),
        }
    }

    fn is_valid(&self) -> bool {
        let mut bytes = [0; 32];
        self.collection == COLLECTION
            && keys::decode_hex(&self.private_id, &mut bytes).is_ok()
            && bytes != [0; 32]
            && hex(&public_half(&bytes)) == self.public_id
    }

    /// 64 hex digits; the address to upload to.
    pub fn expose_private(&self) -> &str {
        &self.private_id
    }

    /// 64 hex digits.
    pub fn public(&self) -> &str {
        &self.public_id
    }
}

fn public_half(private: &[u8; 32]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, private).as_ref());
    out
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    keys::encode_hex(bytes, &mut text);
    text
}

/// Where the identity is kept: `$TS_LOGS_DIR` if it is a directory, `$STATE_DIRECTORY`, else beside the state.
pub fn directory(env: &dyn Fn(&str) -> Option<String>, var_root: Option<&Path>) -> Option<PathBuf> {
    let named = |name| env(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    named("TS_LOGS_DIR")
        .filter(|dir| dir.is_dir())
        .or_else(|| named("STATE_DIRECTORY"))
        .or_else(|| var_root.map(Path::to_path_buf))
}

/// Reads the identity in `dir`; without one, makes one that lasts as long as the process. Nothing is written.
pub fn read(dir: Option<&Path>, rng: &mut dyn CryptoRng) -> LogId {
    dir.and_then(kept).unwrap_or_else(|| LogId::generate(rng))
}

fn kept(dir: &Path) -> Option<LogId> {
    let bytes = fs::read(dir.join(FILE)).ok()?;
    let id = serde_json::from_slice::<LogId>(&bytes).ok()?;
    id.is_valid().then_some(id)
}

/// Reads the identity in `dir`, or makes one. Where it cannot be kept it lasts as long as the process.
pub fn load(dir: Option<&Path>, rng: &mut dyn CryptoRng) -> LogId {
    let Some(dir) = dir else {
        return LogId::generate(rng);
    };
    if let Some(id) = kept(dir) {
        return id;
    }
    let path = dir.join(FILE);
    let id = LogId::generate(rng);
    if let Err(error) = save(dir, &path, &id) {
        tracing::warn!(
            "cannot keep the log identity in `{}`: {error}",
            path.display()
        );
    }
    id
}

fn save(dir: &Path, path: &Path, id: &LogId) -> std::io::Result<()> {
    use std::io::Write as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(dir)?;
    let text = tailcfg::go::to_string_indent(id, "\t").map_err(std::io::Error::other)?;
    let draft = path.with_extension(format!("tmp{}", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = load(Some(dir.path()), &mut rt::OsRng);
        let again = load(Some(dir.path()), &mut rt::OsRng);
        assert_eq!(first.public(), again.public());
        assert_eq!(first.expose_private(), again.expose_private());
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(
            text.starts_with(
                "{\n\t\"Collection\": \"tailnode.log.tailscale.io\",\n\t\"PrivateID\": \""
            ),
            "{text}"
        );
        assert!(!format!("{first:?}").contains(first.expose_private()));
    }

    #[test]
    fn reading_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let passing = read(Some(dir.path()), &mut rt::OsRng);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let kept = load(Some(dir.path()), &mut rt::OsRng);
        assert_ne!(passing.public(), kept.public());
        assert_eq!(
            read(Some(dir.path()), &mut rt::OsRng).public(),
            kept.public()
        );
    }

    #[test]
    fn halves_that_do_not_belong_together_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let id = load(Some(dir.path()), &mut rt::OsRng);
        let path = dir.path().join(FILE);
        fs::write(
            &path,
            fs::read_to_string(&path)
                .unwrap()
                .replace(id.public(), &"0".repeat(64)),
        )
        .unwrap();
        assert_ne!(load(Some(dir.path()), &mut rt::OsRng).public(), id.public());
    }
}
