//! The resolver's files in a tree of their own.

use std::fs;
use std::os::unix::fs::symlink;

use host::{DnsConfig, DnsConfigurator as _};

use super::LinuxDns;
use super::direct::Direct;
use super::root::Root;

const LIVE: &str = "etc/resolv.conf";
const BACKUP: &str = "etc/resolv.pre-tailscale-backup.conf";
const BEFORE: &str = "# mine\nnameserver 192.0.2.1\nsearch lan.example\noptions ndots:5\n";

struct Tree {
    directory: tempfile::TempDir,
    direct: Direct,
}

impl Tree {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("etc")).unwrap();
        let direct = Direct::new(Root::new(directory.path()));
        Self { directory, direct }
    }

    /// As after `kill -9`: another process begins with the files only.
    fn again(self) -> Self {
        let direct = Direct::new(Root::new(self.directory.path()));
        Self { direct, ..self }
    }

    fn write(&self, text: &str) {
        fs::write(self.directory.path().join(LIVE), text).unwrap();
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.directory.path().join(name)).ok()
    }

    /// All names in the directory.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path().join("etc")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

fn ours() -> DnsConfig {
    DnsConfig {
        nameservers: vec!["100.100.100.100".parse().unwrap()],
        search: vec!["tail.example".into(), "lan.example".into()],
        matching: Vec::new(),
    }
}

#[test]
fn a_file_is_back_as_it_was() {
    let mut tree = Tree::new();
    tree.write(BEFORE);
    for _ in 0..2 {
        tree.direct.apply(&ours()).unwrap();
        let live = tree.read(LIVE).unwrap();
        assert!(
            live.contains(
                "\nnameserver 100.100.100.100\nsearch tail.example lan.example\noptions ndots:5\n"
            ),
            "{live}"
        );
        assert_eq!(tree.read(BACKUP).as_deref(), Some(BEFORE));
        let base = tree.direct.base().unwrap();
        assert_eq!(base.nameservers.len(), 1);
        assert_eq!(base.search, ["lan.example"]);
        tree = tree.again();
    }
    tree.direct.restore().unwrap();
    assert_eq!(tree.read(LIVE).as_deref(), Some(BEFORE));
    assert_eq!(tree.names(), ["resolv.conf"]);
    tree.direct.restore().unwrap();
    assert_eq!(tree.read(LIVE).as_deref(), Some(BEFORE));
}

#[test]
fn where_there_was_none_there_is_none() {
    let mut tree = Tree::new();
    tree.direct.apply(&ours()).unwrap();
    assert_eq!(tree.names(), ["resolv.conf"]);
    tree = tree.again();
    tree.direct.restore().unwrap();
    assert!(tree.names().is_empty());
}

#[test]
fn a_link_is_back_also_one_to_nothing() {
    for target in ["real.conf", "../run/nothing/stub.conf"] {
        let mut tree = Tree::new();
        let etc = tree.directory.path().join("etc");
        fs::write(etc.join("real.conf"), BEFORE).unwrap();
        symlink(target, etc.join("resolv.conf")).unwrap();
        tree.direct.apply(&ours()).unwrap();
        assert!(tree.read(LIVE).unwrap().contains("100.100.100.100"));
        // What it led to is untouched.
        assert_eq!(tree.read("etc/real.conf").as_deref(), Some(BEFORE));
        tree = tree.again();
        tree.direct.restore().unwrap();
        assert_eq!(
            fs::read_link(etc.join("resolv.conf")).unwrap().to_str(),
            Some(target)
        );
        assert_eq!(tree.names(), ["real.conf", "resolv.conf"]);
    }
}

#[test]
fn who_writes_the_file_meanwhile_is_heard() {
    let tree = Tree::new();
    tree.write(BEFORE);
    tree.direct.apply(&ours()).unwrap();
    let newer = "nameserver 192.0.2.9\n";
    tree.write(newer);
    assert_eq!(
        tree.direct.base().unwrap().nameservers,
        ["192.0.2.9".parse::<std::net::IpAddr>().unwrap()]
    );
    tree.direct.apply(&ours()).unwrap();
    tree.direct.restore().unwrap();
    assert_eq!(tree.read(LIVE).as_deref(), Some(newer));
    // The same just before the end.
    tree.direct.apply(&ours()).unwrap();
    tree.write(BEFORE);
    tree.direct.restore().unwrap();
    assert_eq!(tree.read(LIVE).as_deref(), Some(BEFORE));
    assert_eq!(tree.names(), ["resolv.conf"]);
}

#[test]
fn a_death_in_the_middle_loses_nothing() {
    // Between the second name and the new file.
    let tree = Tree::new();
    tree.write(BEFORE);
    let etc = tree.directory.path().join("etc");
    fs::hard_link(etc.join("resolv.conf"), tree.directory.path().join(BACKUP)).unwrap();
    fs::write(etc.join("resolv.conf.tailscale.tmp"), "half").unwrap();
    tree.direct.restore().unwrap();
    assert_eq!(tree.read(LIVE).as_deref(), Some(BEFORE));
    assert_eq!(tree.names(), ["resolv.conf"]);
    // As the originals leave it: renamed, and nothing in its place.
    fs::rename(etc.join("resolv.conf"), tree.directory.path().join(BACKUP)).unwrap();
    tree.direct.apply(&ours()).unwrap();
    tree.direct.restore().unwrap();
    assert_eq!(tree.read(LIVE).as_deref(), Some(BEFORE));
}

#[test]
fn what_cannot_be_kept_is_not_replaced() {
    let tree = Tree::new();
    fs::create_dir(tree.directory.path().join(LIVE)).unwrap();
    assert!(tree.direct.apply(&ours()).is_err());
    assert_eq!(tree.names(), ["resolv.conf"]);
    let tree = Tree::new();
    tree.write(&"#".repeat(20 << 10));
    let error = tree.direct.apply(&ours()).unwrap_err().to_string();
    assert!(error.contains("resolv.conf"), "{error}");
    assert_eq!(tree.names(), ["resolv.conf"]);
}

#[tokio::test]
async fn changes_by_others_are_noticed_and_our_own_are_not() {
    let tree = Tree::new();
    tree.write(BEFORE);
    let mut dns = LinuxDns::at("nothing0", Root::new(tree.directory.path()));
    let system = dns.system().await.unwrap();
    assert_eq!((system.manager, system.splits), ("direct", false));
    assert_eq!(system.search, ["lan.example"]);
    for newer in ["nameserver 192.0.2.8\n", "nameserver 192.0.2.9\n"] {
        assert!(dns.apply(&ours()).await.failures.is_empty());
        // Ours lies before this one; were it noticed, the file would not be theirs yet when this returns.
        tree.write(newer);
        dns.drifted().await;
        assert_eq!(tree.read(LIVE).as_deref(), Some(newer));
        let system = dns.system().await.unwrap();
        let server = newer.split_whitespace().next_back().unwrap();
        assert_eq!(
            system.nameservers,
            [server.parse::<std::net::IpAddr>().unwrap()]
        );
    }
    assert!(dns.apply(&ours()).await.failures.is_empty());
    assert!(dns.cleanup().await.failures.is_empty());
    assert_eq!(tree.read(LIVE).as_deref(), Some("nameserver 192.0.2.9\n"));
    assert_eq!(tree.names(), ["resolv.conf"]);
}
