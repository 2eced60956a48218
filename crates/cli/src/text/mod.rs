//! Output helpers whose layout scripts know: Go's tabwriter, indented JSON, quoting, durations and Unix path hints.

pub(crate) mod dnsname;
pub(crate) mod json;
pub(crate) mod qr;
pub(crate) mod shell;
pub(crate) mod table;

#[cfg(test)]
mod tests;

/// A list as Go's `%q` prints a slice of strings: `["a" "b"]`.
pub(crate) fn quoted_list<S: AsRef<str>>(items: &[S]) -> String {
    let quoted: Vec<String> = items.iter().map(|i| goflag::quote(i.as_ref())).collect();
    format!("[{}]", quoted.join(" "))
}

/// A list as Go's `%v` prints a slice: `[a b]`.
pub(crate) fn list<T: std::fmt::Display>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    format!("[{}]", texts.join(" "))
}

/// Hides what follows `tskey-` in a text that may repeat a mistyped command line.
pub(crate) fn mask_keys(text: &str) -> String {
    const MARK: &str = "tskey-";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at + MARK.len());
        out.push_str(before);
        let end = after
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .unwrap_or(after.len());
        out.extend(std::iter::repeat_n('X', end));
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}
