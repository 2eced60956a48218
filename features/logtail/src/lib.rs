//! Uploads logs to `TS_LOG_TARGET`, and to nowhere else.
//!
//! The protocol is that of the originals (`logtail`): `POST <target>/c/<collection>/<private id>` with a JSON array of
//! entries, zstd where it saves something. Entries wait in memory, at most [`BUFFER_MAX`] bytes of them; when an upload
//! fails, the oldest give way. The disk is never used.

mod buffer;
mod upload;

use std::time::Duration;

use node::{Feature, FeatureHost, LogSubscription, Registry};

use buffer::Buffer;
use upload::Uploader;

/// Bytes of entries that wait for upload.
const BUFFER_MAX: usize = 256 << 10;
/// Entries are collected this long before they are sent.
const FLUSH_DELAY: Duration = Duration::from_secs(2);

const COLLECTION: &str = "tailnode.log.tailscale.io";

/// Where to upload, and as whom.
pub struct Config {
    /// The server's base URL, the value of `TS_LOG_TARGET`.
    pub target: String,
    /// The log's private identity, 64 hex digits.
    pub private_id: String,
    /// The node's log, from its first line on.
    pub log: LogSubscription,
}

/// Uploads what `config.log` says.
pub fn feature(config: Config) -> Box<dyn Feature> {
    Box::new(Logtail(config))
}

struct Logtail(Config);

impl Feature for Logtail {
    fn name(&self) -> &'static str {
        "logtail"
    }

    fn register(self: Box<Self>, registry: &mut Registry) -> Result<(), String> {
        let Config {
            target,
            private_id,
            log,
        } = self.0;
        let uploader = Uploader::new(&target, COLLECTION, &private_id)
            .map_err(|error| format!("cannot upload logs to TS_LOG_TARGET `{target}`: {error}"))?;
        registry.task("logtail", move |_host: FeatureHost| run(log, uploader));
        Ok(())
    }
}

async fn run(mut log: LogSubscription, uploader: Uploader) {
    let mut buffer = Buffer::new(BUFFER_MAX);
    // Idle means blocked here: no timer runs while nothing is logged.
    while let Some(entry) = log.next().await {
        buffer.push(entry.to_json());
        let flush = tokio::time::sleep(FLUSH_DELAY);
        tokio::pin!(flush);
        loop {
            tokio::select! {
                () = &mut flush => break,
                entry = log.next() => match entry {
                    Some(entry) => buffer.push(entry.to_json()),
                    None => break,
                },
            }
        }
        while let Some(body) = buffer.take() {
            let sending = uploader.send_until_taken(&body);
            tokio::pin!(sending);
            loop {
                tokio::select! {
                    () = &mut sending => break,
                    entry = log.next() => match entry {
                        Some(entry) => buffer.push(entry.to_json()),
                        None => return,
                    },
                }
            }
        }
    }
}
