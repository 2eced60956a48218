//! Where the node's identity and preferences are kept.

/// A store could not do what was asked. The text names the place and how to mend it, never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError(pub String);

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreError {}

/// A small map of named byte strings that survives restarts (`ipn.StateStore` of the originals).
pub trait StateStore: Send + Sync {
    /// The value of `key`, or `None` if there is none.
    fn read(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Sets `key`; durable when it returns. Writing the present value does nothing.
    fn write(&self, key: &str, value: &[u8]) -> Result<(), StoreError>;

    /// Forgets `key`.
    fn remove(&self, key: &str) -> Result<(), StoreError>;

    /// All keys, sorted.
    fn keys(&self) -> Result<Vec<String>, StoreError>;

    /// Whether what is written here is lost at exit; such a node registers as ephemeral.
    fn is_ephemeral(&self) -> bool;

    /// Why this store cannot be trusted, if it cannot: the node then stays in `NoState` and refuses logins.
    fn trouble(&self) -> Option<String> {
        None
    }
}
