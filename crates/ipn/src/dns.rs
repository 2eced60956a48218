//! Names in a tailnet.

/// A machine's full name (`host.example.ts.net.`) without the tailnet's suffix and dots around it; the whole name if
/// it lies elsewhere. Upper and lower case are the same.
pub fn trim_suffix<'a>(name: &'a str, suffix: &str) -> &'a str {
    let name = name.strip_suffix('.').unwrap_or(name);
    let suffix = suffix.trim_matches('.');
    if suffix.is_empty() {
        return name;
    }
    let Some(split) = name.len().checked_sub(suffix.len()) else {
        return name;
    };
    match (name.get(..split), name.get(split..)) {
        (Some(head), Some(tail)) if tail.eq_ignore_ascii_case(suffix) => {
            head.strip_suffix('.').unwrap_or(name)
        }
        _ => name,
    }
}

/// The first label of a name.
pub fn first_label(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// The tailnet's suffix, without dots around it, of the full name of one of its machines.
pub fn magic_dns_suffix(full_name: &str) -> &str {
    let name = full_name.strip_suffix('.').unwrap_or(full_name);
    name.split_once('.').map_or("", |(_, suffix)| suffix)
}

/// Whether a hostname may be asked for: letters, digits and hyphens, labels of 1 to 63, 253 in all
/// (`dnsname.ValidHostname`). The error is text for people.
pub fn check_hostname(name: &str) -> Result<(), String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > 253 {
        return Err(format!("`{name}` is longer than 253 bytes"));
    }
    name.split('.').try_for_each(check_label)
}

fn check_label(label: &str) -> Result<(), String> {
    let bytes = label.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return Err("empty DNS label".to_owned());
    };
    if bytes.len() > 63 {
        return Err(format!("DNS label `{label}` is longer than 63 bytes"));
    }
    if !first.is_ascii_alphanumeric() || !last.is_ascii_alphanumeric() {
        return Err(format!(
            "DNS label `{label}` must start and end with a letter or number"
        ));
    }
    match label
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && *c != '-')
    {
        Some(c) => Err(format!("DNS label `{label}` contains `{c}`")),
        None => Ok(()),
    }
}

/// Makes a hostname's first label fit to be asked for: lower case, other characters become hyphens, at most 63
/// (`dnsname.SanitizeHostname`).
pub fn sanitize_hostname(name: &str) -> String {
    let name = name
        .trim_end_matches(".local")
        .trim_end_matches(".localdomain")
        .trim_end_matches(".lan");
    sanitize_label(name)
}

/// One label made of any text (`dnsname.SanitizeLabel`).
pub fn sanitize_label(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| match c {
            'a'..='z' | '0'..='9' => c,
            'A'..='Z' => c.to_ascii_lowercase(),
            _ => '-',
        })
        .collect();
    let mut label: String = text.trim_matches('-').chars().take(63).collect();
    label.truncate(label.trim_end_matches('-').len());
    label
}
