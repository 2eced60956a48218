//! Names for those whose exit node we are (RFC 8484, inside the tunnel and so without TLS).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dns::{Kind, Name, Query, Rcode, Response as DnsResponse};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use transport::server::full;

use super::{Answer, refusal};
use crate::http_dns::DNS_MESSAGE;
use crate::magic_dns::MagicDns;

/// The longest body (the originals' limit).
const MAX_BODY: usize = 256 << 10;
const ID: u16 = 1;

/// What is asked.
enum Asked {
    /// A message, which is answered by one.
    Message(Vec<u8>),
    /// By a person who looks for a fault.
    Name(Box<Query>),
}

pub(super) async fn answer(magic_dns: &MagicDns, request: Request<Incoming>) -> Answer {
    let asked = match *request.method() {
        Method::GET => from_query(request.uri().query().unwrap_or_default()),
        Method::POST => from_body(request).await,
        _ => Err("bad HTTP method"),
    };
    let asked = match asked {
        Ok(asked) => asked,
        Err(why) => return refusal(StatusCode::BAD_REQUEST, why),
    };
    let message = match &asked {
        Asked::Message(message) => message,
        Asked::Name(query) => query.bytes(),
    };
    let Some(reply) = magic_dns.answer_peer(message).await else {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "DNS forwarding error");
    };
    match asked {
        Asked::Message(_) => with_type(reply, DNS_MESSAGE),
        Asked::Name(query) => with_type(shown(&reply, &query), "application/json"),
    }
}

fn with_type(body: Vec<u8>, kind: &'static str) -> Answer {
    let mut answer = Response::new(full(body));
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

fn from_query(text: &str) -> Result<Asked, &'static str> {
    let parameter = |name| localapi::parameter(text, name).filter(|value| !value.is_empty());
    if let Some(message) = parameter("dns") {
        if message.len() / 4 * 3 > MAX_BODY {
            return Err("query too large");
        }
        let decoded = URL_SAFE_NO_PAD.decode(message);
        let decoded = decoded.map_err(|_| "invalid 'dns' base64 encoding")?;
        return Ok(Asked::Message(decoded));
    }
    let name = parameter("q").ok_or(
        "missing 'dns' parameter: give '?dns=' a message (RFC 8484), or '?q=' a name to see its answer as JSON",
    )?;
    let name: Name = name.parse().map_err(|_| "'q' is no domain name")?;
    let kind = match parameter("t")
        .unwrap_or_default()
        .to_ascii_lowercase()
        .as_str()
    {
        "aaaa" => Kind::AAAA,
        "txt" => Kind::TXT,
        _ => Kind::A,
    };
    Ok(Asked::Name(Box::new(Query::new(ID, &name, kind))))
}

async fn from_body(request: Request<Incoming>) -> Result<Asked, &'static str> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != DNS_MESSAGE) {
        return Err("unexpected Content-Type");
    }
    match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => Ok(Asked::Message(body.to_bytes().into())),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err("query too large"),
        Err(_) => Err("error reading post body with DNS query"),
    }
}

/// An answer for people: a list of its addresses or texts, or what went wrong.
fn shown(reply: &[u8], query: &Query) -> Vec<u8> {
    let failed = |why: String| serde_json::json!({ "Error": why });
    let json = match DnsResponse::parse(reply, query, ID) {
        None => failed("the answer cannot be read".into()),
        Some(response) if response.rcode != Rcode::NO_ERROR => {
            failed(format!("DNS RCode = {}", response.rcode.0))
        }
        Some(response) => match response.answers() {
            Err(error) => failed(error.to_string()),
            Ok(answers) => {
                let shown = [Kind::A, Kind::AAAA, Kind::TXT];
                let answers = answers.into_iter().filter(|one| shown.contains(&one.kind));
                answers.map(|answer| answer.text).collect()
            }
        },
    };
    format!("{json}\n").into_bytes()
}
