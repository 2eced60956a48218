//! Go's `%q`.

use std::fmt::Write as _;

/// A string in double quotes with Go's escapes (`strconv.Quote`).
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            ' ' => out.push(' '),
            c if c.is_ascii_graphic() => out.push(c),
            c if c.is_ascii() => write_escape(&mut out, 'x', 2, c),
            c if c.is_whitespace() || c.escape_debug().len() > 1 => {
                let (letter, width) = if u32::from(c) < 0x1_0000 {
                    ('u', 4)
                } else {
                    ('U', 8)
                };
                write_escape(&mut out, letter, width, c);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn write_escape(out: &mut String, letter: char, width: usize, c: char) {
    let _ = write!(out, "\\{letter}{:0width$x}", u32::from(c));
}
