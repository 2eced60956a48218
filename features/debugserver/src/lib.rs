//! The --debug HTTP listener.
