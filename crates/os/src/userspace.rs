//! `--tun=userspace-networking`: the machine's routing and resolver are left alone.

use host::{Applied, BoxFuture, DnsConfig, DnsConfigurator, Router, RouterConfig};

/// A router and resolver configuration that touches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Untouched;

impl Router for Untouched {
    fn apply(&mut self, _want: &RouterConfig) -> Applied {
        Applied::default()
    }

    fn drifted(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn cleanup(&mut self) -> Applied {
        Applied::default()
    }
}

impl DnsConfigurator for Untouched {
    fn apply(&mut self, _want: &DnsConfig) -> Applied {
        Applied::default()
    }

    fn drifted(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn cleanup(&mut self) -> Applied {
        Applied::default()
    }
}
