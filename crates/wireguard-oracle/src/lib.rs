//! Tests of `wireguard` against another implementation of the protocol.
//!
//! A crate of its own, because that implementation brings a second stack of cryptography, which must not come near
//! anything that ships.
