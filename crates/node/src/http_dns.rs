//! Asking DNS servers by HTTP (RFC 8484): public ones by HTTPS, exit nodes within the tunnel.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use dns::{Query, Response};
use http::{Request, header};
use http_body_util::Full;
use transport::{Kept, Stream};

use crate::userdial::UserDial;

pub(crate) const DNS_MESSAGE: &str = "application/dns-message";
/// The longest message.
const MAX_LEN: usize = 65_535;
/// The id of every question: the connection tells answers apart, and caches on the way find equal questions.
const ID: u16 = 0;
const PATIENCE: Duration = Duration::from_secs(5);

/// The servers that are asked, with their connections.
#[derive(Default)]
pub(crate) struct HttpServers(Kept);

impl HttpServers {
    /// Asks the server at `url`, which is at one of `addresses`.
    pub(crate) async fn ask(
        &self,
        dial: &UserDial,
        query: &Query,
        url: &str,
        addresses: &[SocketAddr],
    ) -> io::Result<Response> {
        let (is_https, host, _) = transport::client::target_of(url).map_err(io::Error::other)?;
        let (roots, uri, authority) = match is_https {
            true => (Some(dial.system.roots()), url, None),
            false => {
                let rest = url.trim_start_matches("http://");
                let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
                (None, &rest[authority.len()..], Some(authority))
            }
        };
        let mut request = Request::post(uri)
            .header(header::CONTENT_TYPE, DNS_MESSAGE)
            .header(header::ACCEPT, DNS_MESSAGE);
        if let Some(authority) = authority {
            request = request.header(header::HOST, authority);
        }
        let body = Full::new(query.to_send(ID).into());
        let request = request.body(body).map_err(io::Error::other)?;
        let (dial, addresses) = (dial.clone(), addresses.to_vec());
        let open = || -> transport::Open<'static> {
            Box::pin(async move { dial.any(&addresses).await.map(Stream::new) })
        };
        let name = authority.unwrap_or(&host);
        let asked = self.0.send(name, roots, request, MAX_LEN, open);
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        let (status, bytes) = answer
            .map_err(|_| io::ErrorKind::TimedOut)?
            .map_err(io::Error::other)?;
        if !status.is_success() {
            return Err(io::Error::other(format!("`{url}` answers {status}")));
        }
        Response::parse(&bytes, query, ID)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not the answer"))
    }
}
