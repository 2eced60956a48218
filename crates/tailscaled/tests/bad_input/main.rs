//! Whatever the world does to the daemon: a clear error, nothing lost, and the node lives.
//!
//! Each parser has tests of its own where it lives; these show that the whole daemon is wired so that they help.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod auth_keys;
mod control;
mod local_api;
mod logins;
mod ours;
mod relay;
mod scripted_control;
mod scripted_relay;
