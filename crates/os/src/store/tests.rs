use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use host::StateStore as _;
use proptest::prelude::*;

use super::*;

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tailscale/tailscaled.state");
    (dir, path)
}

#[test]
fn the_file_is_written_as_the_originals_write_it() {
    let (_dir, path) = place();
    let store = FileStore::open(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"{}");
    store.write("profile-1ab3", b"{}").unwrap();
    store.write("_machinekey", b"privkey:00").unwrap();
    store.write("a<b", b"").unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "{\n  \"_machinekey\": \"cHJpdmtleTowMA==\",\n  \"a\\u003cb\": \"\",\n  \"profile-1ab3\": \"e30=\"\n}"
    );
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        fs::metadata(path.parent().unwrap())
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );
    let again = FileStore::open(&path).unwrap();
    assert_eq!(again.read("_machinekey").unwrap().unwrap(), b"privkey:00");
    again.remove("_machinekey").unwrap();
    assert_eq!(
        FileStore::open(&path).unwrap().keys().unwrap(),
        ["a<b", "profile-1ab3"]
    );
}

#[test]
fn an_equal_write_touches_nothing() {
    let (_dir, path) = place();
    let store = FileStore::open(&path).unwrap();
    store.write("k", b"v").unwrap();
    let inode = |path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let before = inode(&path);
    store.write("k", b"v").unwrap();
    store.remove("other").unwrap();
    assert_eq!(inode(&path), before);
}

#[test]
fn a_truncated_file_is_healed_from_the_second_generation() {
    for damage in [
        &b""[..],
        b"{\"_machinekey\": \"cHJp",
        b"\0\0\0\0",
        b"[]",
        b"{\"a\": \"%%\"}",
    ] {
        let (_dir, path) = place();
        FileStore::open(&path).unwrap().write("k", b"v").unwrap();
        let file = fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        std::io::Write::write_all(&mut &file, damage).unwrap();
        drop(file);
        let healed = FileStore::open(&path).unwrap();
        assert_eq!(healed.read("k").unwrap().unwrap(), b"v");
        assert!(fs::read_to_string(&path).unwrap().contains("\"k\""));
    }
}

#[test]
fn an_older_identity_is_never_resurrected() {
    let (_dir, path) = place();
    FileStore::open(&path).unwrap().write("k", b"old").unwrap();
    // Another program replaces the file by rename, as the originals do, and its write is then torn.
    let other = path.with_extension("other");
    fs::write(&other, b"{\"k\": \"bm").unwrap();
    fs::rename(&other, &path).unwrap();
    let error = FileStore::open(&path).unwrap_err();
    assert!(error.0.contains("Nothing was changed"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"{\"k\": \"bm");
}

#[test]
fn a_missing_primary_is_a_fresh_start() {
    let (_dir, path) = place();
    FileStore::open(&path).unwrap().write("k", b"old").unwrap();
    fs::remove_file(&path).unwrap();
    assert!(FileStore::open(&path).unwrap().keys().unwrap().is_empty());
}

#[test]
fn a_damaged_file_without_a_second_generation_is_left_alone() {
    let (_dir, path) = place();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"garbage").unwrap();
    let store = open(path.to_str().unwrap()).unwrap();
    assert!(store.trouble().unwrap().contains("tailscaled.state"));
    assert!(!store.is_ephemeral());
    store.write("k", b"v").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"garbage");
}

#[test]
fn a_sealed_file_is_refused_and_says_how_to_open_it() {
    let (_dir, path) = place();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, br#"{"key": "", "nonce": "", "data": ""}"#).unwrap();
    assert!(
        FileStore::open(&path)
            .unwrap_err()
            .0
            .contains("--encrypt-state=false")
    );
}

#[test]
fn an_empty_file_without_a_past_is_a_missing_one() {
    let (_dir, path) = place();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"").unwrap();
    assert!(FileStore::open(&path).unwrap().keys().unwrap().is_empty());
}

#[test]
fn schemes_that_are_not_built_say_so() {
    for address in ["kube:secret", "arn:aws:ssm:x", "tpmseal:/x"] {
        let Err(error) = open(address) else {
            panic!("{address} opened")
        };
        assert!(error.0.contains("not included in this build"), "{error}");
    }
    assert!(open("mem:").unwrap().is_ephemeral());
}

proptest! {
    // Every case waits for the disk several times.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_bytes_open_or_fail_cleanly(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (_dir, path) = place();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &bytes).unwrap();
        let _ = FileStore::open(&path);
    }

    #[test]
    fn what_is_written_is_read(values in prop::collection::btree_map(".{0,12}", prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
        let (_dir, path) = place();
        let store = FileStore::open(&path).unwrap();
        for (key, value) in &values {
            store.write(key, value).unwrap();
        }
        let again = FileStore::open(&path).unwrap();
        for (key, value) in &values {
            prop_assert_eq!(again.read(key).unwrap().unwrap(), value.clone());
        }
    }
}
