//! Words quoted for a POSIX shell.

/// Quotes one word so that a shell reads it back: backslashes for a few special characters, single quotes when it holds blanks.
pub(crate) fn quote(word: &str) -> String {
    const SPECIAL: &str = "\\'\"`${[|&;<>()*?!";
    const BLANK: &str = " \t\n";
    if word.is_empty() {
        return "''".to_owned();
    }
    if word.contains(|c| BLANK.contains(c)) {
        return in_quotes(word);
    }
    let mut out = String::with_capacity(word.len() + 2);
    for (at, c) in word.chars().enumerate() {
        if SPECIAL.contains(c) || (at == 0 && c == '~') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Single quotes around everything but single quotes, which are escaped between them.
fn in_quotes(word: &str) -> String {
    let parts: Vec<String> = word
        .split('\'')
        .map(|part| {
            if part.is_empty() {
                String::new()
            } else {
                format!("'{part}'")
            }
        })
        .collect();
    parts.join("\\'")
}
