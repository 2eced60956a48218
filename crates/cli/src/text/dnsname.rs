//! DNS names as the status table shows them and `--hostname` accepts them (the original's `util/dnsname`).

use goflag::quote;

const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 254;

/// The name without the ending `suffix` (whole labels only) and without a final dot.
pub(crate) fn trim_suffix<'a>(name: &'a str, suffix: &str) -> &'a str {
    let name = name.strip_suffix('.').unwrap_or(name);
    let suffix = suffix.trim_matches('.');
    let base = name
        .strip_suffix(suffix)
        .filter(|base| !suffix.is_empty() && base.ends_with('.'));
    base.map_or(name, |base| &base[..base.len() - 1])
}

/// A name that a person chose, as a DNS label.
pub(crate) fn sanitize_hostname(hostname: &str) -> String {
    let mut name = hostname;
    for suffix in [".local", ".localdomain", ".lan"] {
        name = name.strip_suffix(suffix).unwrap_or(name);
    }
    let bytes = name.as_bytes();
    let bytes = &bytes[..bytes.len().min(MAX_LABEL)];
    let start = bytes
        .iter()
        .position(u8::is_ascii_alphanumeric)
        .unwrap_or(bytes.len());
    let end = bytes
        .iter()
        .rposition(u8::is_ascii_alphanumeric)
        .map_or(start, |at| at + 1);
    let label = bytes.get(start..end).unwrap_or_default();
    let kept = label.iter().filter_map(|b| match b {
        b' ' | b'.' | b'@' | b'_' | b'-' => Some('-'),
        b if b.is_ascii_alphanumeric() => Some(char::from(b.to_ascii_lowercase())),
        _ => None,
    });
    kept.collect()
}

/// Whether a text can be a host name; if not, why, in the original's words.
pub(crate) fn check_hostname(hostname: &str) -> Result<(), String> {
    let name = hostname.strip_prefix('.').unwrap_or(hostname);
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.len() + 1 > MAX_NAME {
        return Err(format!("{} is too long to be a DNS name", quote(bare)));
    }
    let labels: Vec<&str> = bare.split('.').collect();
    let leading = labels.split_last().map_or(&[][..], |(_, leading)| leading);
    if let Some(label) = leading.iter().find(|l| l.is_empty() || l.len() > MAX_LABEL) {
        return Err(format!("{} is not a valid DNS label", quote(label)));
    }
    labels.into_iter().try_for_each(check_label)
}

fn check_label(label: &str) -> Result<(), String> {
    let invalid = |why: String| Err(format!("{} is not a valid DNS label: {why}", quote(label)));
    if label.is_empty() {
        return Err("empty DNS label".to_owned());
    }
    if label.len() > MAX_LABEL {
        return Err(format!(
            "{} is too long, max length is {MAX_LABEL} bytes",
            quote(label)
        ));
    }
    if !label.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return invalid("must start with a letter or number".to_owned());
    }
    if !label.ends_with(|c: char| c.is_ascii_alphanumeric()) {
        return invalid("must end with a letter or number".to_owned());
    }
    match label
        .bytes()
        .find(|b| !b.is_ascii_alphanumeric() && *b != b'-')
    {
        Some(b) => invalid(format!("contains invalid character {}", quote_byte(b))),
        None => Ok(()),
    }
}

/// Go's `%q` of a byte: a character literal.
fn quote_byte(byte: u8) -> String {
    let text = quote(&char::from(byte).to_string());
    let inner = text
        .trim_start_matches('"')
        .strip_suffix('"')
        .unwrap_or(&text);
    match byte {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        _ => format!("'{inner}'"),
    }
}

/// The Unicode form of a name with `xn--` labels (RFC 3492), if it has a valid one.
pub(crate) fn to_unicode(name: &str) -> Option<String> {
    let labels: Option<Vec<String>> = name
        .split('.')
        .map(|label| match label.strip_prefix("xn--") {
            Some(code) => punycode(code),
            None => Some(label.to_owned()),
        })
        .collect();
    labels.map(|l| l.join("."))
}

/// Decodes one label's punycode (RFC 3492, section 6.2).
fn punycode(code: &str) -> Option<String> {
    let (basic, extended) = code.rsplit_once('-').unwrap_or(("", code));
    let mut out: Vec<char> = basic.chars().collect();
    let (mut n, mut i, mut bias) = (128u32, 0u32, 72u32);
    let mut digits = extended.bytes();
    while digits.len() > 0 {
        let old = i;
        let (mut weight, mut k) = (1u32, 36u32);
        loop {
            let digit = match digits.next()? {
                b @ b'a'..=b'z' => b - b'a',
                b @ b'A'..=b'Z' => b - b'A',
                b @ b'0'..=b'9' => b - b'0' + 26,
                _ => return None,
            };
            i = i.checked_add(u32::from(digit).checked_mul(weight)?)?;
            let threshold = k.saturating_sub(bias).clamp(1, 26);
            if u32::from(digit) < threshold {
                break;
            }
            weight = weight.checked_mul(36 - threshold)?;
            k += 36;
        }
        let length = u32::try_from(out.len()).ok()? + 1;
        bias = adapt(i - old, length, old == 0);
        n = n.checked_add(i / length)?;
        i %= length;
        out.insert(usize::try_from(i).ok()?, char::from_u32(n)?);
        i += 1;
    }
    Some(out.into_iter().collect())
}

fn adapt(delta: u32, length: u32, first: bool) -> u32 {
    let mut delta = if first { delta / 700 } else { delta / 2 };
    delta += delta / length;
    let mut k = 0;
    while delta > 455 {
        delta /= 35;
        k += 36;
    }
    k + 36 * delta / (delta + 38)
}
