//! `--tun=userspace-networking`: the machine's routing and resolver are left alone.

use host::{
    Applied, BoxFuture, Difference, DnsConfig, DnsConfigurator, Router, RouterConfig, SystemDns,
};

/// A router and resolver configuration that touches nothing.
#[derive(Debug, Clone, Default)]
pub struct Untouched {
    /// What is told of that to whoever asks how the machine is routed.
    pub note: Option<String>,
}

impl Router for Untouched {
    fn differences(&mut self, _want: &RouterConfig) -> Result<Vec<Difference>, String> {
        Ok(Vec::new())
    }

    fn apply(&mut self, _want: &RouterConfig) -> Applied {
        Applied {
            notes: self.note.iter().cloned().collect(),
            ..Applied::default()
        }
    }

    fn drifted(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn cleanup(&mut self) -> Applied {
        Applied::default()
    }
}

impl DnsConfigurator for Untouched {
    fn system(&mut self) -> BoxFuture<'_, Result<SystemDns, String>> {
        Box::pin(std::future::ready(Ok(SystemDns {
            manager: "noop",
            splits: true,
            ..SystemDns::default()
        })))
    }

    fn differences<'a>(
        &'a mut self,
        _want: &'a DnsConfig,
    ) -> BoxFuture<'a, Result<Vec<Difference>, String>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn apply<'a>(&'a mut self, _want: &'a DnsConfig) -> BoxFuture<'a, Applied> {
        Box::pin(std::future::ready(Applied::default()))
    }

    fn drifted(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn cleanup(&mut self) -> BoxFuture<'_, Applied> {
        Box::pin(std::future::ready(Applied::default()))
    }
}
