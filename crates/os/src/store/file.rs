//! The state file: one JSON object of base64 values, byte for byte as the originals write it (`ipn/store/stores.go`).
//!
//! # Crash safety
//!
//! Every write goes to a fresh file, which is synced and renamed over the old one, and then the directory is synced.
//! Beside the state file lies a second generation, `<name>.gen2`: a copy of the primary, the SHA-256 of that copy, and
//! the inode that the primary had when it was written. It is renamed into place *before* the primary, so that it is
//! never older than a primary of ours.
//!
//! Reading: a primary that parses always wins. A missing primary is a fresh start. An empty or unparseable primary is
//! replaced by the second generation only if the copy matches its own hash and the damaged primary is still the very
//! file that the copy was made with (same inode): if another program wrote state in between, the copy is an older
//! identity, which must not come back.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::{StateStore, StoreError};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

type Values = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// A store in one JSON file.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    values: Mutex<Values>,
}

/// The second generation's file.
#[derive(Serialize, Deserialize)]
struct Second {
    sha256: String,
    inode: u64,
    state: String,
}

impl FileStore {
    /// Opens `path`, making it and its directory if they are missing.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        make_directory(path)?;
        let values = match fs::read(path).map(Zeroizing::new) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let store = Self {
                    path: path.into(),
                    values: Mutex::default(),
                };
                store.persist(&Values::new())?;
                return Ok(store);
            }
            Err(error) => return Err(trouble(path, "read", &error)),
            Ok(bytes) => match parse(&bytes) {
                Ok(values) => values,
                Err(why) => recover(path, &bytes, &why)?,
            },
        };
        Ok(Self {
            path: path.into(),
            values: Mutex::new(values),
        })
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the file equal to `values`.
    fn persist(&self, values: &Values) -> Result<(), StoreError> {
        let bytes = Zeroizing::new(encode(values));
        replace(&self.path, &bytes).map_err(|error| trouble(&self.path, "write", &error))
    }

    fn change(&self, change: impl FnOnce(&mut Values)) -> Result<(), StoreError> {
        let mut values = self.values();
        let mut next = values.clone();
        change(&mut next);
        if next == *values {
            return Ok(());
        }
        self.persist(&next)?;
        *values = next;
        Ok(())
    }
}

impl StateStore for FileStore {
    fn read(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.values().get(key).map(|value| value.to_vec()))
    }

    fn write(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.change(|values| {
            values.insert(key.into(), Zeroizing::new(value.into()));
        })
    }

    fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.change(|values| {
            values.remove(key);
        })
    }

    fn keys(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.values().keys().cloned().collect())
    }

    fn is_ephemeral(&self) -> bool {
        false
    }
}

fn trouble(path: &Path, verb: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError(format!(
        "cannot {verb} state file `{}`: {error}",
        path.display()
    ))
}

/// Compat: 0700, and an existing directory is narrowed only if it is ours by its name.
fn make_directory(path: &Path) -> Result<(), StoreError> {
    let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) else {
        return Ok(());
    };
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir);
    made.map_err(|error| trouble(path, "make the directory of", &error))?;
    if dir.file_name().is_some_and(|name| name == "tailscale")
        && let Ok(meta) = fs::metadata(dir)
        && meta.mode() & 0o777 != 0o700
        && let Err(error) = fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
    {
        tracing::warn!("cannot narrow the rights of `{}`: {error}", dir.display());
    }
    Ok(())
}

fn parse(bytes: &[u8]) -> Result<Values, String> {
    if bytes.is_empty() {
        return Err("it is empty".into());
    }
    let texts: BTreeMap<String, Option<Zeroizing<String>>> = serde_json::from_slice(bytes)
        .map_err(|error| format!("it is not the JSON of a state file ({error})"))?;
    if texts.len() == 3
        && ["key", "nonce", "data"]
            .iter()
            .all(|key| texts.contains_key(*key))
    {
        return Err("it is sealed by a TPM, which this build cannot open; run the original daemon once with \
                    --encrypt-state=false"
            .into());
    }
    let mut values = Values::new();
    for (key, text) in texts {
        let text = text.unwrap_or_default();
        let value = STANDARD
            .decode(text.as_bytes())
            .map_err(|_| format!("the value of `{key}` is not base64"))?;
        values.insert(key, Zeroizing::new(value));
    }
    Ok(values)
}

/// Two-space indent, sorted keys, no final newline; an empty map is `{}`.
fn encode(values: &Values) -> Vec<u8> {
    if values.is_empty() {
        return b"{}".to_vec();
    }
    let mut out = Vec::with_capacity(values.values().map(|value| value.len() * 2 + 64).sum());
    for (key, value) in values {
        out.extend_from_slice(if out.is_empty() { b"{\n  " } else { b",\n  " });
        out.extend_from_slice(tailcfg::go::to_string(key).unwrap_or_default().as_bytes());
        out.extend_from_slice(b": \"");
        out.extend_from_slice(Zeroizing::new(STANDARD.encode(value.as_slice())).as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b"\n}");
    out
}

/// Reads the bytes of a state file and writes them anew. What we or the originals wrote comes out as it was.
pub fn rewrite(bytes: &[u8]) -> Result<Vec<u8>, String> {
    parse(bytes).map(|values| encode(&values))
}

fn second_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gen2");
    name.into()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut text = String::new();
    keys::encode_hex(digest.as_ref(), &mut text);
    text
}

/// Writes both generations, the second first.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Ok(meta) = fs::metadata(path)
        && !meta.is_file()
    {
        return Err(io::Error::other("it exists and is not a regular file"));
    }
    let primary = Draft::write(path, bytes)?;
    let second = Second {
        sha256: sha256(bytes),
        inode: primary.inode,
        state: String::from_utf8_lossy(bytes).into_owned(),
    };
    let second_bytes = Zeroizing::new(serde_json::to_vec(&second).map_err(io::Error::other)?);
    let _state = Zeroizing::new(second.state);
    Draft::write(&second_path(path), &second_bytes)?.publish()?;
    primary.publish()?;
    sync_directory(path)
}

/// A written and synced file that has not taken its name yet; dropped, it is removed.
struct Draft {
    temporary: PathBuf,
    target: PathBuf,
    inode: u64,
    published: bool,
}

impl Draft {
    fn write(target: &Path, bytes: &[u8]) -> io::Result<Self> {
        let mut name = target.as_os_str().to_owned();
        name.push(format!(".tmp{}", std::process::id()));
        let temporary = PathBuf::from(name);
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        let mut draft = Self {
            temporary,
            target: target.into(),
            inode: 0,
            published: false,
        };
        file.write_all(bytes)?;
        file.sync_all()?;
        draft.inode = file.metadata()?.ino();
        Ok(draft)
    }

    fn publish(mut self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.target)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = fs::remove_file(&self.temporary)
        {
            tracing::debug!("cannot remove `{}`: {error}", self.temporary.display());
        }
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    File::open(dir)?.sync_all()
}

/// The primary is damaged: takes the second generation if it may be trusted.
fn recover(path: &Path, damaged: &[u8], why: &str) -> Result<Values, StoreError> {
    let second_file = second_path(path);
    let second = match fs::read(&second_file).map(Zeroizing::new) {
        Ok(bytes) => serde_json::from_slice::<Second>(&bytes).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Compat: the originals take an empty file without a past for a missing one.
            if damaged.is_empty() {
                tracing::warn!(
                    "state file `{}` is empty; treating it like a missing one",
                    path.display()
                );
                return Ok(Values::new());
            }
            None
        }
        Err(_) => None,
    };
    let inode = fs::metadata(path)
        .map(|meta| meta.ino())
        .unwrap_or_default();
    let values = second
        .filter(|second| second.sha256 == sha256(second.state.as_bytes()) && second.inode == inode)
        .and_then(|second| parse(Zeroizing::new(second.state).as_bytes()).ok());
    let Some(values) = values else {
        return Err(StoreError(format!(
            "cannot use state file `{}`: {why}. Nothing was changed. Restore the file from a backup, or remove it \
             (and `{}`) to start afresh with a new login",
            path.display(),
            second_file.display(),
        )));
    };
    tracing::warn!(
        "state file `{}` is damaged: {why}; going on from its second generation",
        path.display()
    );
    replace(path, &encode(&values)).map_err(|error| trouble(path, "mend", &error))?;
    Ok(values)
}
