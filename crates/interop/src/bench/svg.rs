//! A picture of the ratios: a bar for each figure, with a line at "as good as theirs".

use std::fmt::Write as _;

use super::Row;

const WIDTH: usize = 760;
const LABEL: usize = 330;
const LINE: usize = 24;
/// The bar of a ratio of 1.
const UNIT: f64 = 160.0;

/// Whether less is better.
fn is_cost(metric: &str) -> bool {
    metric != "Gbit/s"
}

/// A chart.
pub(crate) fn chart(rows: &[Row]) -> String {
    let height = (rows.len() + 2) * LINE;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let title = "ours / theirs: green is better than theirs, red is worse; the line is 1";
    let _ = writeln!(text, "<text x=\"8\" y=\"17\" fill=\"#333\">{title}</text>");
    for (at, row) in rows.iter().enumerate() {
        let y = (at + 1) * LINE;
        let better = (row.ratio < 1.0) == is_cost(row.metric);
        let color = if better { "#2e8b57" } else { "#c0392b" };
        let bar = (row.ratio * UNIT).clamp(1.0, (WIDTH - LABEL - 60) as f64);
        let test = format!("{:?}", row.test).to_lowercase();
        let label = format!("{test} {} beside {}", row.metric, escaped(&row.peer));
        let middle = y + LINE * 2 / 3;
        let _ = writeln!(
            text,
            "<text x=\"8\" y=\"{middle}\" fill=\"#333\">{label}</text>\n<rect x=\"{LABEL}\" y=\"{}\" width=\"{bar:.0}\" \
             height=\"{}\" fill=\"{color}\"/>\n<text x=\"{:.0}\" y=\"{middle}\" fill=\"#333\">{:.2}</text>",
            y + 4,
            LINE - 8,
            LABEL as f64 + bar + 6.0,
            row.ratio,
        );
    }
    let one = LABEL as f64 + UNIT;
    let _ = writeln!(
        text,
        "<line x1=\"{one:.0}\" y1=\"{LINE}\" x2=\"{one:.0}\" y2=\"{height}\" stroke=\"#333\" stroke-dasharray=\"3 3\"/>\n</svg>"
    );
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
