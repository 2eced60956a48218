//! State stores: a file, or memory.

mod file;
mod memory;

pub use file::{FileStore, rewrite};
pub use memory::MemoryStore;

use std::path::Path;
use std::sync::Arc;

use host::{StateStore, StoreError};

/// Opens the store that `address` names. A file that cannot be trusted gives a store in memory that says so
/// ([`StateStore::trouble`]): the daemon runs, refuses logins, and leaves the file alone.
pub fn open(address: &str) -> Result<Arc<dyn StateStore>, StoreError> {
    if address.starts_with("mem:") {
        return Ok(Arc::new(MemoryStore::ephemeral()));
    }
    for scheme in ["kube:", "arn:", "tpmseal:"] {
        if address.starts_with(scheme) {
            return Err(StoreError(format!(
                "--state={scheme}… is not included in this build; give a file path or mem:"
            )));
        }
    }
    match FileStore::open(Path::new(address)) {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) => {
            tracing::error!("{error}");
            Ok(Arc::new(MemoryStore::in_trouble(error.0)))
        }
    }
}

#[cfg(test)]
mod tests;
