//! Where the originals keep their files (`paths/paths.go`), and the rules of `--state` and `--statedir`.

use std::path::{Path, PathBuf};

/// The machine-wide state file.
pub const STATE_FILE: &str = "/var/lib/tailscale/tailscaled.state";

/// The LocalAPI socket: under `/var/run` where that exists, else in the working directory.
pub fn default_socket() -> String {
    if Path::new("/var/run").is_dir() {
        "/var/run/tailscale/tailscaled.sock".into()
    } else {
        "tailscaled.sock".into()
    }
}

/// The state file that is used when no flag names one: the machine-wide one for root, or for whoever may write to its
/// directory; else one in the user's data directory. `None` where there is no such place.
pub fn default_state_file(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if crate::process::is_root() || writable(Path::new("/var/lib/tailscale")) {
        return Some(STATE_FILE.into());
    }
    let data = env("XDG_DATA_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .or_else(|| {
            env("HOME")
                .filter(|dir| !dir.is_empty())
                .map(|home| Path::new(&home).join(".local/share"))
        })?;
    Some(data.join("tailscale/tailscaled.state"))
}

fn writable(dir: &Path) -> bool {
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Where state and everything beside it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatePlace {
    /// The store's address: a path, or a scheme such as `mem:`.
    pub state: String,
    /// The directory for everything else; `None` switches those features off.
    pub var_root: Option<PathBuf>,
}

/// Neither flag nor default names a place for state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoStatePlace;

impl std::fmt::Display for NoStatePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("--statedir (or at least --state) is required")
    }
}

impl std::error::Error for NoStatePlace {}

/// Resolves `--state` and `--statedir`; `default` is what [`default_state_file`] found.
pub fn state_place(
    state: &str,
    statedir: &str,
    default: Option<PathBuf>,
) -> Result<StatePlace, NoStatePlace> {
    let dir = (!statedir.is_empty()).then(|| PathBuf::from(statedir));
    if state.is_empty() {
        if let Some(dir) = dir {
            let file = dir.join("tailscaled.state");
            return Ok(StatePlace {
                state: file.to_string_lossy().into_owned(),
                var_root: Some(dir),
            });
        }
        let file = default.ok_or(NoStatePlace)?;
        return Ok(StatePlace {
            state: file.to_string_lossy().into_owned(),
            var_root: file.parent().map(Path::to_path_buf),
        });
    }
    Ok(StatePlace {
        state: state.into(),
        var_root: dir.or_else(|| derived_root(state)),
    })
}

/// Compat: the originals derive the directory from an absolute state path only where its folder is named `tailscale`.
fn derived_root(state: &str) -> Option<PathBuf> {
    let path = Path::new(state);
    let dir = path.is_absolute().then(|| path.parent()).flatten()?;
    let name = dir.file_name()?.to_str()?;
    name.eq_ignore_ascii_case("tailscale")
        .then(|| dir.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(state: &str, statedir: &str, want_state: &str, want_root: Option<&str>) {
        let place = state_place(
            state,
            statedir,
            Some("/d/tailscale/tailscaled.state".into()),
        )
        .unwrap();
        assert_eq!(
            (place.state.as_str(), place.var_root.as_deref()),
            (want_state, want_root.map(Path::new))
        );
    }

    #[test]
    fn the_matrix_of_state_and_statedir() {
        check(
            "",
            "",
            "/d/tailscale/tailscaled.state",
            Some("/d/tailscale"),
        );
        check("", "/x", "/x/tailscaled.state", Some("/x"));
        check("/y/Tailscale/s", "", "/y/Tailscale/s", Some("/y/Tailscale"));
        check("/y/other/s", "", "/y/other/s", None);
        check("/y/other/s", "/x", "/y/other/s", Some("/x"));
        check("tailscale/s", "", "tailscale/s", None);
        check("mem:", "/x", "mem:", Some("/x"));
        check("mem:", "", "mem:", None);
        assert_eq!(state_place("", "", None), Err(NoStatePlace));
    }
}
