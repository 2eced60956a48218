//! Sending entries.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use http::{HeaderName, Method, StatusCode};
use rand_core::Rng as _;
use transport::client::{self, OneShot};
use transport::tls::Verify;
use transport::{DialConfig, Dialer, ProxyConfig};

const TIMEOUT: Duration = Duration::from_secs(45);
const WAIT_MAX: Duration = Duration::from_secs(300);
const ANSWER_MAX: usize = 1 << 10;
/// Smaller bodies are not worth compressing, nor are smaller savings: the two header fields cost 50 bytes.
const COMPRESS_FROM: usize = 256;
const COMPRESS_GAIN: usize = 64;

/// Knows where to send entries. The private identity is part of the address, so errors never show it.
pub(crate) struct Uploader {
    dialer: Dialer,
    url: String,
    shown: String,
}

impl Uploader {
    pub(crate) fn new(target: &str, collection: &str, private_id: &str) -> Result<Self, String> {
        client::target_of(target).map_err(|error| error.to_string())?;
        let env = std::env::vars().collect();
        let dialer = Dialer::new(DialConfig {
            egress: None,
            proxy: ProxyConfig::from_env(&env),
        });
        let base = target.trim_end_matches('/');
        Ok(Self {
            dialer,
            url: format!("{base}/c/{collection}/{private_id}"),
            shown: base.to_owned(),
        })
    }

    /// Sends one body, again and again until the server takes it.
    pub(crate) async fn send_until_taken(&self, body: &str) {
        let mut told = false;
        loop {
            let wait = match self.send(body).await {
                Ok(()) => return,
                Err(wait) => wait,
            };
            if !told {
                // Standard error only: in the log it would be one more entry to upload.
                eprintln!("logtail: cannot upload to {}; trying again", self.shown);
                told = true;
            }
            tokio::time::sleep(wait.unwrap_or_else(random_wait).min(WAIT_MAX)).await;
        }
    }

    /// `Err` is how long the server wants us to wait, if it said so.
    async fn send(&self, body: &str) -> Result<(), Option<Duration>> {
        let (body, headers) = encode(body);
        let request = OneShot {
            method: Method::POST,
            url: self.url.clone(),
            headers,
            body,
            body_len_max: ANSWER_MAX,
            timeout: TIMEOUT,
            verify: Verify::Host,
        };
        match client::send(&self.dialer, request).await {
            Ok(answer) if answer.status == StatusCode::OK => Ok(()),
            Ok(answer) => Err(retry_after(&answer.headers)),
            Err(_) => Err(None),
        }
    }
}

fn random_wait() -> Duration {
    Duration::from_millis(30_000 + u64::from(rt::OsRng.next_u32() % 30_000))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(http::header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .parse()
        .ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

fn encode(body: &str) -> (Bytes, HeaderMap) {
    let mut headers = HeaderMap::new();
    if body.len() > COMPRESS_FROM
        && let Ok(small) = zstd::bulk::compress(body.as_bytes(), 1)
        && small.len() + COMPRESS_GAIN < body.len()
    {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("zstd"));
        headers.insert(
            HeaderName::from_static("orig-content-length"),
            body.len().into(),
        );
        return (small.into(), headers);
    }
    (Bytes::copy_from_slice(body.as_bytes()), headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_saves_is_compressed() {
        let (short, headers) = encode("[{}]");
        assert_eq!((&short[..], headers.len()), (&b"[{}]"[..], 0));
        let text = "{\"text\":\"the same again\"},".repeat(50);
        let (body, headers) = encode(&text);
        assert_eq!(
            headers["orig-content-length"],
            text.len().to_string().as_str()
        );
        assert_eq!(
            zstd::bulk::decompress(&body, text.len()).unwrap(),
            text.as_bytes()
        );
    }

    #[test]
    fn a_target_must_be_a_url() {
        assert!(Uploader::new("log.example", "c", "id").is_err());
        assert_eq!(
            Uploader::new("http://127.0.0.1:1/", "c", "id").unwrap().url,
            "http://127.0.0.1:1/c/c/id"
        );
    }
}
