//! State that ends with the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use host::{StateStore, StoreError};

/// A store in memory: `--state=mem:`, or the stand-in for a file that cannot be trusted.
#[derive(Debug)]
pub struct MemoryStore {
    values: Mutex<BTreeMap<String, Vec<u8>>>,
    trouble: Option<String>,
}

impl MemoryStore {
    /// An empty store whose node is ephemeral.
    pub fn ephemeral() -> Self {
        Self {
            values: Mutex::default(),
            trouble: None,
        }
    }

    /// The stand-in for a file that cannot be trusted.
    pub fn in_trouble(why: String) -> Self {
        Self {
            values: Mutex::default(),
            trouble: Some(why),
        }
    }

    fn values(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for MemoryStore {
    fn read(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.values().get(key).cloned())
    }

    fn write(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.values().insert(key.into(), value.into());
        Ok(())
    }

    fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.values().remove(key);
        Ok(())
    }

    fn keys(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.values().keys().cloned().collect())
    }

    fn is_ephemeral(&self) -> bool {
        self.trouble.is_none()
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }
}
