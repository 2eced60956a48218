//! What crates may depend on, and what each must say of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// Crates that a pure crate must not reach: they do IO, wait, or ask the system for randomness.
const IMPURE: [&str; 6] = ["tokio", "mio", "socket2", "rustix", "getrandom", "hyper"];

/// Dependencies on the same floor that are allowed, with the reason in `ARCHITECTURE.md`.
const SIDEWAYS: [(&str, &[&str]); 8] = [
    ("tailcfg", &["keys", "packet"]),
    ("derp", &["keys", "packet"]),
    ("host", &["keys", "packet"]),
    ("ipn", &["keys", "packet", "tailcfg"]),
    ("packet", &["keys"]),
    ("os", &["rt"]),
    ("transport", &["rt"]),
    ("xtask", &["testkit"]),
];

/// The only unsafe crates.
const UNSAFE: [&str; 2] = ["aead", "sys"];

/// The members of the workspace, by name.
pub(super) struct Workspace {
    pub(super) crates: BTreeMap<String, Crate>,
}

/// One member.
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    floor: Option<u8>,
    pure: Option<bool>,
    /// Members that it needs to be built; not those of its tests.
    needs: BTreeSet<String>,
    /// The files that the compiler starts from.
    pub(super) roots: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    metadata: Option<Marks>,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Marks {
    floor: Option<u8>,
    pure: Option<bool>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    src_path: PathBuf,
}

impl Workspace {
    /// Asks cargo.
    pub(super) fn load(root: &Path) -> anyhow::Result<Self> {
        let json = cargo(root, &["metadata", "--no-deps", "--format-version", "1"])?;
        let metadata: Metadata = serde_json::from_str(&json).context("decode `cargo metadata`")?;
        let crates = metadata
            .packages
            .into_iter()
            .map(Crate::new)
            .map(|c| (c.name.clone(), c))
            .collect();
        Ok(Self { crates })
    }
}

impl Crate {
    fn new(package: Package) -> Self {
        let builds = |d: &Dependency| d.path.is_some() && d.kind.as_deref() != Some("dev");
        let (floor, pure) = package
            .metadata
            .map_or((None, None), |marks| (marks.floor, marks.pure));
        Self {
            name: package.name,
            dir: package
                .manifest_path
                .parent()
                .map(Path::to_path_buf)
                .unwrap_or_default(),
            floor,
            pure,
            needs: package
                .dependencies
                .into_iter()
                .filter(builds)
                .map(|d| d.name)
                .collect(),
            roots: package.targets.into_iter().map(|t| t.src_path).collect(),
        }
    }

    fn is_feature(&self) -> bool {
        self.dir
            .parent()
            .is_some_and(|parent| parent.ends_with("features"))
    }
}

#[expect(clippy::disallowed_methods, reason = "cargo knows the workspace")]
fn cargo(root: &Path, args: &[&str]) -> anyhow::Result<String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(args)
        .current_dir(root)
        .output()
        .context("start cargo")?;
    ensure!(
        output.status.success(),
        "cargo {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).context("read cargo's answer")
}

/// Dependencies go down, but for the written exceptions.
pub(super) fn check_floors(workspace: &Workspace, problems: &mut Vec<String>) {
    for (name, own) in &workspace.crates {
        let Some(floor) = own.floor else {
            problems.push(format!("{name}: Cargo.toml has no package.metadata.floor"));
            continue;
        };
        if own.pure.is_none() {
            problems.push(format!("{name}: Cargo.toml has no package.metadata.pure"));
        }
        for need in own
            .needs
            .iter()
            .filter_map(|need| workspace.crates.get(need))
        {
            let Some(below) = need.floor else { continue };
            if below >= floor && !(below == floor && may_go_sideways(name, &need.name)) {
                problems.push(format!(
                    "{name} (floor {floor}) must not depend on {} (floor {below})",
                    need.name
                ));
            }
            if let Some(reason) = denied(own, need) {
                problems.push(format!("{name} must not depend on {}: {reason}", need.name));
            }
        }
    }
}

fn may_go_sideways(from: &str, to: &str) -> bool {
    to == "metrics"
        || SIDEWAYS
            .iter()
            .any(|(name, allowed)| *name == from && allowed.contains(&to))
}

/// Dependencies that go down and are forbidden nevertheless.
fn denied(from: &Crate, to: &Crate) -> Option<&'static str> {
    const CLI: [&str; 3] = ["localapi", "transport", "rt"];
    match (from.name.as_str(), to.name.as_str()) {
        ("node", "os") => Some("the host's traits are handed in"),
        (_, "os") if from.is_feature() => Some("features see the host through `node`"),
        ("cli", other) if matches!(to.floor, Some(3..=5)) && !CLI.contains(&other) => {
            Some("commands talk LocalAPI")
        }
        _ => None,
    }
}

/// What a pure crate is built from does no IO.
pub(super) fn check_purity(workspace: &Workspace, root: &Path, problems: &mut Vec<String>) {
    for name in workspace
        .crates
        .values()
        .filter(|c| c.pure == Some(true))
        .map(|c| &c.name)
    {
        // `cargo tree` chooses the features as if only this crate were built.
        let tree = match cargo(
            root,
            &[
                "tree",
                "--package",
                name,
                "--edges",
                "normal",
                "--prefix",
                "none",
                "--format",
                "{p}",
            ],
        ) {
            Ok(tree) => tree,
            Err(error) => {
                problems.push(format!("{name}: {error:#}"));
                continue;
            }
        };
        let reached: BTreeSet<&str> = tree
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        for impure in IMPURE.iter().filter(|impure| reached.contains(**impure)) {
            problems.push(format!("{name} is pure and must not reach {impure} (see `cargo tree -p {name} -e normal -i {impure}`)"));
        }
    }
}

/// Each crate obeys the workspace's lints and says what it is for.
pub(super) fn check_manifests(workspace: &Workspace, problems: &mut Vec<String>) {
    for (name, own) in &workspace.crates {
        let text = std::fs::read_to_string(own.dir.join("Cargo.toml")).unwrap_or_default();
        let manifest: toml::Table = match text.parse() {
            Ok(manifest) => manifest,
            Err(error) => {
                problems.push(format!("{name}: Cargo.toml: {error}"));
                continue;
            }
        };
        check_lints(name, manifest.get("lints"), problems);
        let documented = own
            .roots
            .iter()
            .filter(|root| root.starts_with(own.dir.join("src")));
        for root in documented
            .filter(|root| !std::fs::read_to_string(root).is_ok_and(|text| text.starts_with("//!")))
        {
            problems.push(format!(
                "{name}: {} does not start with its documentation (//!)",
                root.display()
            ));
        }
    }
}

/// The workspace forbids unsafe code; the crates that have it must say why at each place.
fn check_lints(name: &str, lints: Option<&toml::Value>, problems: &mut Vec<String>) {
    let inherits = lints
        .and_then(|l| l.get("workspace"))
        .and_then(toml::Value::as_bool)
        == Some(true);
    if !UNSAFE.contains(&name) {
        if !inherits {
            problems.push(format!(
                "{name}: Cargo.toml must have [lints] workspace = true"
            ));
        }
        return;
    }
    let denied = |group: &str, lint: &str| {
        let level = lints
            .and_then(|l| l.get(group))
            .and_then(|group| group.get(lint));
        matches!(level.and_then(toml::Value::as_str), Some("deny" | "forbid"))
    };
    for (group, lint) in [
        ("clippy", "undocumented_unsafe_blocks"),
        ("rust", "unsafe_op_in_unsafe_fn"),
    ] {
        if !denied(group, lint) {
            problems.push(format!("{name}: Cargo.toml must deny {lint}"));
        }
    }
}

/// The map names what there is, and nothing else.
pub(super) fn check_map(workspace: &Workspace, root: &Path, problems: &mut Vec<String>) {
    let map = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap_or_default();
    for name in workspace
        .crates
        .keys()
        .filter(|name| !map.contains(&format!("`{name}`")))
    {
        problems.push(format!("ARCHITECTURE.md does not name the crate `{name}`"));
    }
    for gone in described(&map)
        .into_iter()
        .filter(|name| !workspace.crates.contains_key(*name))
    {
        problems.push(format!(
            "ARCHITECTURE.md describes `{gone}`, which is no crate"
        ));
    }
}

/// The names before a colon in the section on the crates: "`keys`: ...".
fn described(map: &str) -> Vec<&str> {
    let section = map
        .split("\n## ")
        .find(|section| section.starts_with("The crates"))
        .unwrap_or_default();
    let pieces: Vec<&str> = section.split('`').collect();
    let quoted = pieces.windows(2).skip(1).step_by(2);
    quoted
        .filter(|pair| pair[1].starts_with(':'))
        .map(|pair| pair[0])
        .collect()
}
