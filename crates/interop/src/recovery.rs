//! How long nothing arrives after something broke.

use anyhow::Result;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

pub(crate) fn run(_: &Options) -> Result<bool> {
    Ok(true)
}
