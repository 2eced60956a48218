//! Registering a node key.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, header};
use rand_core::Rng as _;
use tailcfg::go::GoTime;
use tailcfg::{RegisterAuth, RegisterRequest, RegisterResponse, UserProfile};

use crate::client::LoginRequest;
use crate::connection::{Answer, Connector, routing_hint};
use crate::{Error, ServerUrl};

const WHAT: &str = "register";
const PATH: &str = "/machine/register";
const ANSWER_LEN_MAX: usize = 1 << 20;
/// An expiry this long ago logs out; the value is the originals'.
const LOGOUT_EXPIRY_SECS: i64 = 123;
/// A longer wait than this is not believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// What the server says to a registration.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Done.
    Registered(Box<UserProfile>),
    /// Somebody must open this page.
    Visit(String),
    /// The key has run out; a fresh one is needed.
    KeyExpired,
}

/// Asks once. With `followup`, a page that was named before, the server answers when somebody is done with it.
pub(crate) async fn register(
    connector: &Connector,
    login: &LoginRequest,
    followup: &str,
) -> Result<Outcome, Error> {
    let backend_log_id = &login.hostinfo.backend_log_id;
    if backend_log_id.is_empty() {
        return Err(Error::Unable("the host's description has no log id"));
    }
    let auth_key = login
        .auth_key
        .clone()
        .filter(|key| !key.expose().is_empty());
    let request = RegisterRequest {
        version: tailcfg::CAP.into(),
        node_key: login.node_key,
        old_node_key: login.old_node_key,
        nl_key: login.lock_key,
        auth: auth_key.map(|auth_key| {
            Box::new(RegisterAuth {
                auth_key,
                ..RegisterAuth::default()
            })
        }),
        followup: followup.to_owned(),
        hostinfo: Some(Box::new((*login.hostinfo).clone())),
        ephemeral: login.ephemeral,
        ..RegisterRequest::default()
    };
    let answer = post(connector, &request).await?;
    judge(&connector.url, &answer)
}

/// Expires the key on the server.
pub(crate) async fn logout(connector: &Connector, login: &LoginRequest) -> Result<(), Error> {
    let long_ago = GoTime::from_unix_secs(LOGOUT_EXPIRY_SECS);
    set_expiry(connector, login, long_ago).await
}

/// Has the key run out at this moment.
pub(crate) async fn set_expiry(
    connector: &Connector,
    login: &LoginRequest,
    expiry: GoTime,
) -> Result<(), Error> {
    let request = RegisterRequest {
        version: tailcfg::CAP.into(),
        node_key: login.node_key,
        old_node_key: login.old_node_key,
        nl_key: login.lock_key,
        expiry,
        hostinfo: Some(Box::new((*login.hostinfo).clone())),
        ephemeral: login.ephemeral,
        ..RegisterRequest::default()
    };
    let answer = post(connector, &request).await?;
    let response = read(&answer)?;
    match response.error.is_empty() {
        true => Ok(()),
        false => Err(Error::Refused(response.error)),
    }
}

async fn post(connector: &Connector, request: &RegisterRequest) -> Result<Answer, Error> {
    let mut hint = vec![request.old_node_key, request.node_key];
    hint.dedup();
    let body = encode(WHAT, request)?;
    connector
        .exchange(
            WHAT,
            (Method::POST, PATH, routing_hint(&hint), body),
            ANSWER_LEN_MAX,
        )
        .await
}

pub(crate) fn encode<T: serde::Serialize>(what: &'static str, value: &T) -> Result<Bytes, Error> {
    tailcfg::go::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Error::Answer {
            what,
            problem: format!("encoding the request: {error}"),
        })
}

fn read(answer: &Answer) -> Result<RegisterResponse, Error> {
    if answer.status == 429 {
        return Err(Error::RateLimited {
            after: retry_after(&answer.headers),
            text: answer.text(),
        });
    }
    answer.expect_ok(WHAT)?;
    let response: Option<RegisterResponse> =
        serde_json::from_slice(&answer.body).map_err(|error| Error::Answer {
            what: WHAT,
            problem: format!("reading the answer: {error}"),
        })?;
    Ok(response.unwrap_or_default())
}

/// The order matters: an error voids the rest, and a key that has run out makes a page pointless.
pub(crate) fn judge(url: &ServerUrl, answer: &Answer) -> Result<Outcome, Error> {
    let response = read(answer)?;
    if !response.error.is_empty() {
        return Err(Error::Refused(response.error));
    }
    if !response.node_key_signature.0.is_empty() {
        return Err(Error::Unable(
            "the tailnet is locked and wants the node key signed; signing is not built",
        ));
    }
    if response.node_key_expired {
        return Ok(Outcome::KeyExpired);
    }
    if response.auth_url.is_empty() {
        return Ok(Outcome::Registered(Box::new(user_of(&response))));
    }
    if !url.may_show(&response.auth_url) {
        return Err(Error::Answer {
            what: WHAT,
            problem: format!(
                "the server wants an untrustworthy page opened: `{}`",
                response.auth_url.escape_debug()
            ),
        });
    }
    Ok(Outcome::Visit(response.auth_url))
}

fn user_of(response: &RegisterResponse) -> UserProfile {
    UserProfile {
        id: response.user.id,
        login_name: response.login.login_name.clone(),
        display_name: response.login.display_name.clone(),
        profile_pic_url: response.login.profile_pic_url.clone(),
        ..UserProfile::default()
    }
}

/// `Retry-After` in seconds or as a date; what makes no sense becomes five to ten seconds.
pub(crate) fn retry_after(headers: &HeaderMap) -> Duration {
    let value = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let parsed = value.and_then(|value| match value.trim().parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let at = http_date(value.trim())?;
            let wait = at - rt::wall().as_unix_secs();
            u64::try_from(wait).ok().map(Duration::from_secs)
        }
    });
    match parsed {
        Some(wait) if !wait.is_zero() && wait <= RETRY_AFTER_MAX => wait,
        _ => Duration::from_millis(5000 + u64::from(rt::OsRng.next_u32() % 5000)),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 5.6.7) as seconds since 1970.
pub(crate) fn http_date(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once(", ")?;
    let mut parts = rest.split(' ');
    let day: i64 = parts.next()?.parse().ok()?;
    let month = parts.next()?;
    let year: i64 = parts.next()?.parse().ok()?;
    let mut clock = parts.next()?.split(':').map(str::parse::<i64>);
    let (hour, minute, second) = (
        clock.next()?.ok()?,
        clock.next()?.ok()?,
        clock.next()?.ok()?,
    );
    if parts.next()? != "GMT" || !(1..=31).contains(&day) || !(1970..=9999).contains(&year) {
        return None;
    }
    let months = [
        "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb",
    ];
    let month = i64::try_from(months.iter().position(|name| *name == month)?).ok()?;
    // Years that start in March put the leap day last.
    let year = if month >= 10 { year - 1 } else { year };
    let days =
        year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}
