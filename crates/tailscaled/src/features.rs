//! The optional parts of this daemon. No other file names them.

use node::{Feature, LogTap};

use crate::flags::Flags;

/// The features that the flags and the environment ask for.
pub(crate) fn list(
    flags: &Flags,
    no_logs: bool,
    log_id: &os::logid::LogId,
    tap: &LogTap,
    env: &dyn Fn(&str) -> Option<String>,
) -> Vec<Box<dyn Feature>> {
    let mut features: Vec<Box<dyn Feature>> = Vec::new();
    if let Some(target) = env("TS_LOG_TARGET").filter(|target| !target.is_empty() && !no_logs) {
        features.push(logtail::feature(logtail::Config {
            target,
            private_id: log_id.expose_private().to_owned(),
            log: tap.subscribe(),
        }));
    }
    if !flags.debug.is_empty() {
        features.push(debugserver::feature(flags.debug.clone()));
    }
    if !flags.socks5.is_empty() || !flags.http_proxy.is_empty() {
        features.push(proxy::feature(proxy::Config {
            socks5: flags.socks5.clone(),
            http: flags.http_proxy.clone(),
        }));
    }
    features
}
