//! `cargo xtask tidy`: what must hold of the repository as a whole, as a test.
//!
//! Floors and purity of the crates, two crates with unsafe code, the map in `ARCHITECTURE.md`, no file that nothing includes, comments
//! about the code instead of its history, files that can be read in one sitting. `cargo test -p xtask` runs the same checks.

mod comments;
mod crates;
mod files;

use std::path::Path;
use std::process::ExitCode;

use self::crates::Workspace;

/// Checks everything and prints what is wrong.
pub(crate) fn run(root: &Path) -> ExitCode {
    let problems = problems(root);
    for problem in &problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// All that is wrong, one line each.
fn problems(root: &Path) -> Vec<String> {
    let workspace = match Workspace::load(root) {
        Ok(workspace) => workspace,
        Err(error) => return vec![format!("read the workspace: {error:#}")],
    };
    let mut problems = Vec::new();
    crates::check_floors(&workspace, &mut problems);
    crates::check_purity(&workspace, root, &mut problems);
    crates::check_manifests(&workspace, &mut problems);
    crates::check_map(&workspace, root, &mut problems);
    files::check(&workspace, root, &mut problems);
    problems
}

#[cfg(test)]
mod tests;
