//! What comes from this machine: arguments, files, local requests; and texts of keys, which come from everywhere.

use bytes::Bytes;
use goflag::FlagSet;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ipn::Prefs;
use keys::{
    ChallengePublic, DiscoPublic, LockPublic, MachinePrivate, MachinePublic, NodePrivate,
    NodePublic,
};
use transport::head::{HEAD_LEN_MAX, Head};

/// Arguments, one per line. An error has a text.
pub(crate) fn goflag(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let flags = FlagSet::new("fuzz")
        .bool("b", false, "a `switch`")
        .opt_bool("o", "maybe")
        .int("i", 1, "number")
        .uint("u", 1, "number")
        .float("f", 0.5, "number")
        .string("s", "x", "text")
        .port("port", 0, "port");
    match flags.parse(text.split('\n')) {
        Ok(parsed) => {
            let _ = (parsed.bool("b"), parsed.int("i"), parsed.string("s"));
        }
        Err(end) => assert!(!end.to_string().is_empty()),
    }
    let _ = goflag::quote(text);
    let _ = text.parse::<goflag::GoDuration>().map(|d| d.to_string());
}

/// A head in its first bytes only, whatever follows.
pub(crate) fn http_head(data: &[u8]) {
    if let Ok(Some((head, len))) = Head::parse(data) {
        assert!(len <= data.len() && len <= HEAD_LEN_MAX);
        assert_eq!(Head::parse(&data[..len]), Ok(Some((head.clone(), len))));
        let _ = (head.status(), head.header("host"));
    }
}

/// A key that can be read is written as it was.
pub(crate) fn key_texts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let same = |written: String| assert!(written.eq_ignore_ascii_case(text));
    let _ = text.parse::<NodePublic>().map(|k| same(k.to_string()));
    let _ = text.parse::<MachinePublic>().map(|k| same(k.to_string()));
    let _ = text.parse::<DiscoPublic>().map(|k| same(k.to_string()));
    let _ = text.parse::<ChallengePublic>().map(|k| same(k.to_string()));
    let _ = text.parse::<LockPublic>();
    let _ = text
        .parse::<NodePrivate>()
        .map(|k| same(k.expose_text().to_string()));
    let _ = text
        .parse::<MachinePrivate>()
        .map(|k| same(k.expose_text().to_string()));
}

/// Stored preferences that can be read are stable once written.
pub(crate) fn prefs(data: &[u8]) {
    let Ok(prefs) = Prefs::from_stored(data) else {
        return;
    };
    let once = prefs.to_stored();
    let again = Prefs::from_stored(&once).expect("what we write can be read");
    assert_eq!(again.to_stored(), once);
}

/// A state file that can be read is stable once written.
pub(crate) fn state_file(data: &[u8]) {
    if let Ok(once) = os::store::rewrite(data) {
        assert_eq!(os::store::rewrite(&once), Ok(once));
    }
}

/// The method, a space, the target, a line feed, headers (`name:value`, one per line), an empty line, the body: a request
/// is read, or refused, the same each time.
pub(crate) fn localapi(data: &[u8]) {
    let end = data.windows(2).position(|two| two == b"\n\n");
    let (head, body) = match end {
        Some(end) => (&data[..end], &data[end + 2..]),
        None => (data, &[][..]),
    };
    let Ok(head) = std::str::from_utf8(head) else {
        return;
    };
    let mut lines = head.split('\n');
    let Some((method, target)) = lines.next().and_then(|line| line.split_once(' ')) else {
        return;
    };
    let Ok(method) = method.parse::<Method>() else {
        return;
    };
    let mut headers = HeaderMap::new();
    for line in lines.take(16) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            headers.append(name, value);
        }
    }
    let body = Bytes::copy_from_slice(body);
    let first = localapi::routes::read(&method, target, &headers, body.clone());
    let second = localapi::routes::read(&method, target, &headers, body);
    assert_eq!(first.is_ok(), second.is_ok());
}

/// What clients of the SOCKS5 and HTTP proxies send.
pub(crate) fn proxy(data: &[u8]) {
    proxy::fuzzing::socks(data);
    if let Ok(text) = std::str::from_utf8(data) {
        proxy::fuzzing::connect_target(text);
    }
}

/// What the kernel says of links, addresses, routes and rules. What can be read is what would be asked for.
#[cfg(target_os = "linux")]
pub(crate) fn netlink(data: &[u8]) {
    use os::netlink::message::HEADER_LEN;
    use os::netlink::{Address, Link, Request, Route, Rule, attributes, messages};
    let body = |request: Request| request.finish(1).split_off(HEADER_LEN);
    let mut total = 0;
    for message in messages(data) {
        total += HEADER_LEN + message.body.len();
        let _ = message.outcome();
        assert!(attributes(message.body).count() <= message.body.len() / 4);
        let _ = Link::parse(message.body);
        if let Some(address) = Address::parse(message.body) {
            assert_eq!(Address::parse(&body(address.add())), Some(address));
        }
        if let Some(route) = Route::parse(message.body) {
            let again = Route::parse(&body(route.add()));
            // A route has no host part, and its gateway may be of the other family only in a way that is not ours.
            assert_eq!(again.map(|route| route.to), Some(route.to.trunc()));
        }
        if let Some(rule) = Rule::parse(message.body) {
            let again = Rule::parse(&body(rule.add()));
            assert_eq!(again.map(|rule| rule.priority), Some(rule.priority));
        }
    }
    assert!(total <= data.len());
}

/// Netlink is Linux's.
#[cfg(not(target_os = "linux"))]
pub(crate) fn netlink(_data: &[u8]) {}

/// What the machine's files say of its resolver. It is Linux's.
#[cfg(target_os = "linux")]
pub(crate) fn resolv_conf(data: &[u8]) {
    os::dns::fuzzing::files(data);
}

/// What the machine's bus answers.
#[cfg(target_os = "linux")]
pub(crate) fn dbus(data: &[u8]) {
    os::dns::fuzzing::bus(data);
}

/// Neither is known elsewhere.
#[cfg(not(target_os = "linux"))]
pub(crate) fn resolv_conf(_data: &[u8]) {}
#[cfg(not(target_os = "linux"))]
pub(crate) fn dbus(_data: &[u8]) {}
