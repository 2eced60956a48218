//! The tree in which the resolver's files are. Tests have one of their own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Usually `/`.
#[derive(Debug, Clone)]
pub(super) struct Root(PathBuf);

impl Root {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where the file of that absolute name is.
    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.0.join(name.trim_start_matches('/'))
    }

    /// The text of a file, if there is one.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<String>> {
        match fs::read(self.at(name)) {
            // What is no text has no lines that anybody understands.
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(named(&self.at(name), "read", &error)),
        }
    }
}

/// An error that says what was attempted.
pub(super) fn named(path: &Path, verb: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{verb} {}: {error}", path.display()))
}
