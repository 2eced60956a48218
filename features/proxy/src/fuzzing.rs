//! The readers of what clients send, for the fuzz targets alone.

use crate::http::split_target;
use crate::socks::message::{Greeting, Request, Target, open_datagram, seal_datagram};

/// Every SOCKS5 message. What is missing is never nothing, and an envelope that opens is made again as it was.
pub fn socks(bytes: &[u8]) {
    if let Err(missing) = Greeting::parse(bytes) {
        assert!(missing.0 > 0);
    }
    if let Err(missing) = Request::parse(bytes) {
        assert!(missing.0 > 0);
    }
    if let Ok(Some((target, rest))) = Target::parse(bytes) {
        let mut written = Vec::new();
        target.write(&mut written);
        written.extend_from_slice(rest);
        assert_eq!(Target::parse(&written), Ok(Some((target, rest))));
    }
    if let Some((target, datagram)) = open_datagram(bytes) {
        let sealed = seal_datagram(&target, datagram);
        assert_eq!(open_datagram(&sealed), Some((target, datagram)));
    }
}

/// Where an HTTP CONNECT wants to go.
pub fn connect_target(text: &str) {
    if let Some((host, port)) = split_target(text) {
        assert!(!host.is_empty());
        let bracketed = format!("[{host}]:{port}");
        assert_eq!(split_target(&bracketed), Some((host, port)));
    }
}
