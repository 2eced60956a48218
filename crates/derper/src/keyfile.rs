//! The file with the relay's private key: `{"PrivateKey": "privkey:<hex>"}`, as the originals write it.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, bail};
use keys::NodePrivate;
use rt::OsRng;
use serde::Deserialize;

/// Names match in any case in the originals; these are the ones that people write.
#[derive(Deserialize)]
struct KeyFile {
    #[serde(
        rename = "PrivateKey",
        alias = "privateKey",
        alias = "privatekey",
        default
    )]
    private_key: NodePrivate,
}

/// Reads the key, or writes a new one if there is no file.
pub(crate) fn load_or_create(path: &Path) -> anyhow::Result<NodePrivate> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return create(path),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let file: KeyFile = serde_json::from_slice(&text)
        .map_err(|error| anyhow::anyhow!("config: {}: {error}", path.display()))?;
    if file.private_key.is_zero() {
        // Anybody could pass for a relay with this key.
        bail!("config: {} holds no private key", path.display());
    }
    Ok(file.private_key)
}

fn create(path: &Path) -> anyhow::Result<NodePrivate> {
    let key = NodePrivate::generate(&mut OsRng);
    let text = format!("{{\n\t\"PrivateKey\": \"{}\"\n}}", *key.expose_text());
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    // Whole or not at all: half a file would be an error for ever.
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    write_private(Path::new(&new), text.as_bytes())
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| path.display().to_string())?;
    Ok(key)
}

fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/derper.key");
        let key = load_or_create(&path).unwrap();
        assert_eq!(load_or_create(&path).unwrap(), key);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\n\t\"PrivateKey\": \"privkey:") && text.ends_with("\"\n}"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn bad_files_are_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        for text in [
            "",
            "{",
            "{}",
            "{\"PrivateKey\":null}",
            "{\"PrivateKey\":\"privkey:12\"}",
        ] {
            fs::write(&path, text).unwrap();
            let error = format!("{:#}", load_or_create(&path).unwrap_err());
            assert!(error.starts_with("config: "), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
