//! For tests: starts the original programs on loopback, in directories of their own, and ends them.
//!
//! Each starter in [`originals`] looks up its program in an environment variable and returns `None`, with a `SKIP` line on
//! stderr, where that is unset. A program that is there but does not come up fails the test with the end of its log.
//!
//! Blocking and without a runtime, so that any kind of test can use it.

pub mod originals;
mod process;

pub use process::{Process, free_port, wait_until};
