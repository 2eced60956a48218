//! Implements the host traits: file store, userspace router and DNS, link monitor, host facts.
