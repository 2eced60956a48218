//! The SOCKS5 and HTTP proxy listeners, also both on one port.
