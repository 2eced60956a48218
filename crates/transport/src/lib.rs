//! TCP, TLS and HTTP both ways: dial plan, proxies, DERP dial, one bounded HTTP server loop, self-signed certificates with their pins.
