//! Outputs without what changes between two runs.

/// Members of JSON objects whose values change by themselves.
const MOVING: [&str; 20] = [
    "Version",
    "RxBytes",
    "TxBytes",
    "LastWrite",
    "LastHandshake",
    "LastSeen",
    "Created",
    "KeyExpiry",
    "Now",
    "Expiry",
    "Started",
    "QR",
    "Port",
    "KeySignature",
    "HomeDERP",
    "id",
    "ID",
    "BackendLogID",
    "900-v4",
    // On loopback the original may have its answer before it has noted that it could send.
    "IPv4CanSend",
];

/// The lines of an output, in one form.
pub(super) fn lines(text: &str) -> Vec<String> {
    let told = text
        .lines()
        .filter(|line| !line.starts_with("Warning: client version"));
    let mut lines: Vec<String> = told
        .flat_map(|text| spread(text).unwrap_or_else(|| vec![text.to_owned()]))
        .map(|text| line(&text))
        .collect();
    for line in lines.iter_mut().filter(|line| is_warning(line)) {
        line.truncate(line.trim_end_matches(',').len());
    }
    // The daemon tells health warnings in another order each time.
    lines
        .chunk_by_mut(|a, b| is_warning(a) && is_warning(b))
        .for_each(<[String]>::sort);
    lines
}

/// An object on one line as many lines.
fn spread(text: &str) -> Option<Vec<String>> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    let pretty = serde_json::to_string_pretty(&object).ok()?;
    Some(pretty.lines().map(str::to_owned).collect())
}

fn is_warning(line: &str) -> bool {
    line.starts_with("#     - ") || (line.starts_with("    \"") && !line.contains("\": "))
}

fn line(line: &str) -> String {
    if let Some((before, after)) = line.split_once("\": ")
        && let Some(name) = before.trim_start().strip_prefix('"')
        && (MOVING.contains(&name) || name.contains("127.0.0.1") || is_number(name))
        && !after.ends_with(['{', '['])
    {
        let name = if MOVING.contains(&name) { name } else { "*" };
        let indent = before.len() - before.trim_start().len();
        return format!("{:indent$}\"{name}\": ...", "");
    }
    let mut out = String::new();
    let mut before = "";
    for piece in line.split_inclusive([' ', '"', ',', '(', ')', '\t']) {
        let end = piece.len() - piece.chars().last().map_or(0, char::len_utf8);
        let ends_word = piece.ends_with([' ', '"', ',', '(', ')', '\t']);
        let (word, end) = if ends_word {
            piece.split_at(end)
        } else {
            (piece, "")
        };
        out += &self::word(word, before);
        out += end;
        if !word.is_empty() {
            before = word;
        }
    }
    out.trim_end().to_owned()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A word, or what stands for all of its kind.
fn word(word: &str, before: &str) -> String {
    for key in ["nodekey:", "discokey:", "mkey:"] {
        if word.starts_with(key) {
            return format!("{key}...");
        }
    }
    if let Some((head, _)) = word.split_once("/register/") {
        return format!("{}/register/...", local(head));
    }
    if is_duration(word) || (matches!(before, "tx" | "rx") && is_number(word)) {
        return "N".to_owned();
    }
    let is_date = word.len() >= 10 && word.is_char_boundary(4) && {
        let mark = word.as_bytes().get(4).copied();
        word.starts_with("20") && matches!(mark, Some(b'-' | b'/'))
    };
    let is_time = word.len() >= 8
        && word.split(':').count() >= 3
        && word.starts_with(|c: char| c.is_ascii_digit())
        && !word.contains("::")
        && !word.contains('a');
    if is_date || is_time {
        return "T".to_owned();
    }
    // Ports of peer APIs are derived from addresses, unless somebody has them already.
    if word.len() == 5 && is_number(word) {
        return "P".to_owned();
    }
    if let Some((address, port)) = word.rsplit_once(':')
        && (address.starts_with("http://100.64.") || address.starts_with("http://[fd7a:"))
        && is_number(port)
    {
        return format!("{address}:P");
    }
    let is_profile =
        word.len() == 4 && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_profile {
        return "ID..".to_owned();
    }
    local(word)
}

/// Whether this is what Go prints for a time below an hour.
fn is_duration(word: &str) -> bool {
    let unit = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    unit.len() < word.len() && matches!(unit, "ns" | "µs" | "ms" | "s")
}

/// Without ports on loopback and names of temporary directories.
fn local(word: &str) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some((head, tail)) = rest.split_once("127.0.0.1:") {
        out += head;
        out += "127.0.0.1:P";
        rest = tail.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out += rest;
    match out.split_once("/tmp/.tmp") {
        Some((head, tail)) => {
            let rest = tail.split_once('/').map_or("", |(_, rest)| rest);
            format!("{head}DIR/{rest}")
        }
        None => out,
    }
}

/// The lines that one side has more often than the other, at most so many that a person reads them.
pub(super) fn only_in_first(first: &[String], second: &[String]) -> Vec<String> {
    const SHOWN: usize = 40;
    let mut rest: Vec<&String> = second.iter().collect();
    let mut out = Vec::new();
    for line in first {
        match rest.iter().position(|other| *other == line) {
            Some(at) => {
                rest.remove(at);
            }
            None => out.push(line.clone()),
        }
    }
    let hidden = out.len().saturating_sub(SHOWN);
    out.truncate(SHOWN);
    if hidden > 0 {
        out.push(format!("... and {hidden} more"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_is_gone_and_the_rest_stays() {
        let text = "pong from b (100.64.0.2, 1234) via DERP(test) in 12ms\n\
                    \t\"TxBytes\": 12,\n\"Key\": \"nodekey:00ff\",\n\
                    visit http://127.0.0.1:4711/register/abc-_1\n\
                    active; relay \"test\", tx 5 rx 6\n\
                    at http://100.64.0.1:36467 in 1.5s (100.64.0.1, 36467)\n";
        assert_eq!(
            lines(text),
            [
                "pong from b (100.64.0.2, ID..) via DERP(test) in N",
                " \"TxBytes\": ...",
                "\"Key\": \"nodekey:...\",",
                "visit http://127.0.0.1:P/register/...",
                "active; relay \"test\", tx N rx N",
                "at http://100.64.0.1:P in N (100.64.0.1, P)",
            ]
        );
    }

    #[test]
    fn lines_are_counted() {
        let of = |lines: &[&str]| {
            lines
                .iter()
                .map(|line| (*line).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            only_in_first(&of(&["a", "a", "b"]), &of(&["a", "c"])),
            ["a", "b"]
        );
    }
}
