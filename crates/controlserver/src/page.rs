//! The page where a person lets a machine in: `GET /register/{id}` shows who asks, `POST` decides.
//!
//! Whoever has the address may look; who may decide is [`Settings::open_logins`](crate::Settings::open_logins).

use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;
use transport::server::{Body, escape, full};

use crate::state::{Matters, State};
use crate::tailnet::{Approval, LoginInfo};

/// Where the pages are; the login's id is the last part.
pub(crate) const LOGIN_PATH: &str = "/register/";

/// A form has two short fields.
const FORM_LEN_MAX: usize = 4 << 10;
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers a browser.
pub(crate) async fn answer(state: &State, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let id = path.strip_prefix(LOGIN_PATH).unwrap_or_default();
    match *request.method() {
        Method::GET | Method::HEAD => show(state, id),
        Method::POST => match read_form(request).await {
            Some(form) => decide(state, id, &form).await,
            None => page(
                StatusCode::BAD_REQUEST,
                "Unreadable",
                "<p>The form is unreadable.</p>",
            ),
        },
        _ => page(
            StatusCode::METHOD_NOT_ALLOWED,
            "Not here",
            "<p>Use GET or POST.</p>",
        ),
    }
}

fn show(state: &State, id: &str) -> Response<Body> {
    let open = state.read(|tailnet| tailnet.settings().open_logins);
    match state.read(|tailnet| tailnet.login(id)) {
        Ok(login) if login.decided => decided(),
        Ok(login) => page(
            StatusCode::OK,
            "Let this machine in?",
            &question(&login, open),
        ),
        Err(_) => over(),
    }
}

async fn decide(state: &State, id: &str, form: &[(String, String)]) -> Response<Body> {
    let field = |name: &str| {
        let found = form.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.trim().to_owned())
    };
    if !state.read(|tailnet| tailnet.settings().open_logins) {
        return page(
            StatusCode::FORBIDDEN,
            "Not yours to decide",
            "<p>Only the administrator lets machines into this tailnet.</p>",
        );
    }
    let (user, decision) = (field("user").unwrap_or_default(), field("decision"));
    let done = state
        .change(Matters::Soon, |tailnet| match decision.as_deref() {
            Some("approve") => tailnet.approve_login(id, Approval { user, tags: None }),
            Some("refuse") => tailnet.refuse_login(id),
            _ => Err(crate::Refused::Invalid("no decision".into())),
        })
        .await;
    match done {
        Ok(()) => decided(),
        Err(crate::Refused::Invalid(why)) => page(
            StatusCode::BAD_REQUEST,
            "Not possible",
            &format!("<p>{}</p>", escape(&why)),
        ),
        Err(_) => over(),
    }
}

fn question(login: &LoginInfo, open: bool) -> String {
    let unknown = |text: &str| match text {
        "" => "unknown".to_owned(),
        text => escape(text),
    };
    let mut html = format!(
        "<table><tr><th>host<td>{}<tr><th>system<td>{}<tr><th>tags<td>{}<tr><th>node key<td><code>{}</code>\
         <tr><th>machine key<td><code>{}</code></table>",
        unknown(&login.hostname),
        unknown(&login.os),
        match login.tags.is_empty() {
            true => "none".to_owned(),
            false => escape(&login.tags.join(", ")),
        },
        login.node_key,
        login.machine_key,
    );
    if open {
        html.push_str(
            "<form method=post><label>as a machine of <input name=user value=lab maxlength=80></label>\
             <button name=decision value=approve>Let it in</button>\
             <button name=decision value=refuse>Refuse</button></form>",
        );
    } else {
        let command = format!("lab admin approve-login {}", login.id);
        html.push_str(&format!(
            "<p>The administrator decides, with <code>{}</code>.</p>",
            escape(&command)
        ));
    }
    html
}

fn decided() -> Response<Body> {
    page(
        StatusCode::OK,
        "Decided",
        "<p>The machine is being told. You can close this page.</p>",
    )
}

fn over() -> Response<Body> {
    page(
        StatusCode::NOT_FOUND,
        "Nobody asks here",
        "<p>This login is over. The machine gets a new address when it asks again.</p>",
    )
}

fn page(status: StatusCode, title: &str, html: &str) -> Response<Body> {
    const STYLE: &str = "body{font-family:sans-serif;max-width:44em;margin:3em auto}th{text-align:left;padding-right:1em}\
                         code{word-break:break-all}button{margin-left:1em}";
    let text = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{html}\n"
    );
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn read_form(request: Request<Incoming>) -> Option<Vec<(String, String)>> {
    let body = Limited::new(request.into_body(), FORM_LEN_MAX).collect();
    let body = timeout(FORM_TIMEOUT, body).await.ok()?.ok()?.to_bytes();
    parse_form(std::str::from_utf8(&body).ok()?)
}

/// `name=value&…`, with `+` for a space and `%` before two hex digits.
fn parse_form(text: &str) -> Option<Vec<(String, String)>> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_as_browsers_write_them() {
        let pairs = |text: &str| parse_form(text);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            pairs("user=a%40b.c&decision=approve"),
            Some(vec![pair("user", "a@b.c"), pair("decision", "approve")])
        );
        assert_eq!(
            pairs("a+b=%C3%A9+&x"),
            Some(vec![pair("a b", "é "), pair("x", "")])
        );
        assert_eq!(pairs(""), Some(vec![]));
        for bad in ["a=%", "a=%4", "a=%zz", "a=%ff", "%é=1"] {
            assert_eq!(pairs(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_hosts_name_cannot_become_markup() {
        let login = LoginInfo {
            id: "x".into(),
            hostname: "<script>alert(1)</script>".into(),
            os: "\"'&".into(),
            tags: vec!["<b>".into()],
            node_key: keys::NodePublic::ZERO,
            machine_key: keys::MachinePublic::ZERO,
            asked: tailcfg::go::GoTime::ZERO,
            decided: false,
        };
        for open in [true, false] {
            let html = question(&login, open);
            assert!(
                !html.contains("<script>") && !html.contains("<b>"),
                "{html}"
            );
            assert!(html.contains("&lt;script&gt;") && html.contains("&quot;&#39;&amp;"));
            assert_eq!(html.contains("<form"), open);
        }
    }
}
