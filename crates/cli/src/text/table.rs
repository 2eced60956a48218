//! Columns aligned as Go's `text/tabwriter` does it, without its flags.

/// How wide cells are: at least `min`, and `pad` more than their text.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    pub(crate) min: usize,
    pub(crate) pad: usize,
}

impl Columns {
    /// Aligns the tab-terminated cells of consecutive lines. A column is as wide as the widest cell of the uninterrupted run of
    /// lines that have it; text after a line's last tab belongs to no column.
    pub(crate) fn align(self, text: &str) -> String {
        let rows: Vec<Vec<&str>> = text
            .split_inclusive('\n')
            .map(|line| line.split('\t').collect())
            .collect();
        let mut out = String::with_capacity(text.len() * 2);
        self.block(&rows, &mut Vec::new(), &mut out);
        out
    }

    fn block(self, rows: &[Vec<&str>], widths: &mut Vec<usize>, out: &mut String) {
        let column = widths.len();
        let has_cell = |row: &Vec<&str>| row.len() > column + 1;
        let mut rest = rows;
        while !rest.is_empty() {
            let run = rest.iter().take_while(|row| has_cell(row)).count();
            if run == 0 {
                let plain = rest.iter().take_while(|row| !has_cell(row)).count();
                for row in &rest[..plain] {
                    write_row(row, widths, out);
                }
                rest = &rest[plain..];
                continue;
            }
            let widest = rest[..run]
                .iter()
                .map(|row| row[column].chars().count() + self.pad)
                .max()
                .unwrap_or(0);
            widths.push(widest.max(self.min));
            self.block(&rest[..run], widths, out);
            widths.pop();
            rest = &rest[run..];
        }
    }
}

fn write_row(row: &[&str], widths: &[usize], out: &mut String) {
    for (at, cell) in row.iter().enumerate() {
        out.push_str(cell);
        if let Some(width) = widths.get(at).filter(|_| at + 1 < row.len()) {
            out.extend(std::iter::repeat_n(
                ' ',
                width.saturating_sub(cell.chars().count()),
            ));
        }
    }
}
