//! The answers to plain requests.

use crate::request::{Head, Response};

const OK: (u16, &str) = (200, "OK");
const FOUND: (u16, &str) = (302, "Found");
const NO_CONTENT: (u16, &str) = (204, "No Content");
const BAD_REQUEST: (u16, &str) = (400, "Bad Request");
const FORBIDDEN: (u16, &str) = (403, "Forbidden");
const NOT_FOUND: (u16, &str) = (404, "Not Found");
const METHOD_NOT_ALLOWED: (u16, &str) = (405, "Method Not Allowed");
const UPGRADE_REQUIRED: (u16, &str) = (426, "Upgrade Required");
const NOT_IMPLEMENTED: (u16, &str) = (501, "Not Implemented");

/// What is served at `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HomePage {
    /// A page that says what this is.
    #[default]
    Default,
    /// Nothing.
    Blank,
    /// A redirect to this URL.
    Redirect(String),
}

impl HomePage {
    /// Reads the `-home` flag: empty, `blank`, or an http or https URL.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" => Some(Self::Default),
            "blank" => Some(Self::Blank),
            url if url.starts_with("http://") || url.starts_with("https://") => {
                Some(Self::Redirect(url.to_owned()))
            }
            _ => None,
        }
    }
}

const HOME: &str = "<html><body>\n<h1>DERP</h1>\n<p>This is a DERP relay: it passes on end-to-end encrypted packets between the \
nodes of a tailnet that cannot reach each other directly, and answers STUN.</p>\n</body></html>\n";

/// What a request on the main port leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Answer(Response),
    /// The connection becomes a relayed client's.
    Derp {
        /// The client reads frames at once, so that it must get no HTTP answer.
        fast_start: bool,
    },
}

/// The main port.
pub(crate) fn route(head: &Head, derp: bool, home: &HomePage) -> Route {
    if head.method == "CONNECT" {
        return Route::Answer(Response::error(FORBIDDEN, "CONNECT not enabled").closing());
    }
    Route::Answer(match head.path() {
        "/derp" if !derp => Response::error(NOT_FOUND, "derp server disabled"),
        "/derp" => match head.upgrade().as_str() {
            "derp" => {
                return Route::Derp {
                    fast_start: head.header("derp-fast-start") == Some("1"),
                };
            }
            "websocket" => Response::error(NOT_IMPLEMENTED, "DERP over WebSocket: not built"),
            _ => Response::error(UPGRADE_REQUIRED, "DERP requires connection upgrade"),
        },
        "/derp/probe" | "/derp/latency-check" if head.is_get_or_head() => {
            Response::new(OK).with("Access-Control-Allow-Origin", "*")
        }
        "/derp/probe" | "/derp/latency-check" => {
            Response::error(METHOD_NOT_ALLOWED, "bogus probe method")
        }
        "/generate_204" => no_content(head),
        // No names are configured, so there are none to publish.
        "/bootstrap-dns" => for_browsers(
            Response::new(OK)
                .with("Content-Type", "application/json")
                .closing(),
        ),
        "/robots.txt" => for_browsers(Response::new(OK).body("User-agent: *\nDisallow: /\n")),
        path if path == "/debug" || path.starts_with("/debug/") => {
            Response::error(NOT_FOUND, "debug pages: not built")
        }
        _ => home_page(home),
    })
}

/// The port beside TLS: it serves captive portal probes and sends the rest to TLS.
pub(crate) fn route_plain(head: &Head) -> Response {
    if head.path() == "/generate_204" {
        return no_content(head);
    }
    if !head.is_get_or_head() {
        return Response::error(BAD_REQUEST, "Use HTTPS");
    }
    let host = head.header("host").unwrap_or_default();
    Response::new(FOUND).with("Location", &format!("https://{host}{}", head.target))
}

fn home_page(home: &HomePage) -> Response {
    let html = |body| {
        Response::new(OK)
            .with("Content-Type", "text/html; charset=utf-8")
            .body(body)
    };
    for_browsers(match home {
        HomePage::Default => html(HOME),
        HomePage::Blank => html(""),
        HomePage::Redirect(url) => Response::new(FOUND).with("Location", url),
    })
}

fn for_browsers(response: Response) -> Response {
    response
        .with(
            "Strict-Transport-Security",
            "max-age=63072000; includeSubDomains",
        )
        .with(
            "Content-Security-Policy",
            "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'self'; block-all-mixed-content; \
             object-src 'none'",
        )
        .with("X-Frame-Options", "DENY")
        .with("X-Content-Type-Options", "nosniff")
}

/// The captive portal probe: an empty answer that repeats a well-formed challenge, which a portal cannot.
fn no_content(head: &Head) -> Response {
    let mut response = Response::new(NO_CONTENT).with(
        "Cache-Control",
        "no-cache, no-store, must-revalidate, no-transform, max-age=0",
    );
    let challenge = head.header("x-tailscale-challenge").unwrap_or_default();
    let well_formed = challenge
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || b".-_:".contains(&c));
    if !challenge.is_empty() && challenge.len() <= 64 && well_formed {
        response = response.with("X-Tailscale-Response", &format!("response {challenge}"));
    }
    response
}
