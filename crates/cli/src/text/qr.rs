//! QR codes of login URLs, as text and as a picture.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use qrcodegen::{QrCode, QrCodeEcc};

/// Light modules around the code, without which readers do not find it.
const QUIET: i32 = 4;

/// How a code is drawn with characters (`--qr-format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `##` for each light module: for consoles that know no other characters.
    Ascii,
    /// Full blocks.
    Large,
    /// Half blocks.
    Small,
}

impl Format {
    /// The format of that name; `auto` depends on the locale.
    pub(crate) fn from_name(name: &str, locale: &str) -> Option<Self> {
        match name {
            "auto" if locale.ends_with(".UTF-8") => Some(Self::Small),
            "auto" | "ascii" => Some(Self::Ascii),
            "large" => Some(Self::Large),
            "small" => Some(Self::Small),
            _ => None,
        }
    }
}

/// A code as rows of modules, dark ones true, with the quiet zone around it.
pub(crate) struct Code(Vec<Vec<bool>>);

impl Code {
    /// The code of a text; `None` if it is longer than a code can hold.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
        let range = || -QUIET..code.size() + QUIET;
        let row = |y| range().map(|x| code.get_module(x, y)).collect();
        Some(Self(range().map(row).collect()))
    }

    /// Drawn light on dark, as terminals mostly are: what is light in the code is ink.
    pub(crate) fn draw(&self, format: Format) -> String {
        match format {
            Format::Ascii => self.full("##"),
            Format::Large => self.full("\u{2588}\u{2588}"),
            Format::Small => self.halves(),
        }
    }

    fn full(&self, light: &str) -> String {
        let mut out = String::new();
        for row in &self.0 {
            out.extend(row.iter().map(|dark| if *dark { "  " } else { light }));
            out.push('\n');
        }
        out
    }

    fn halves(&self) -> String {
        let mut out = String::new();
        for rows in self.0.chunks(2) {
            let upper = rows.first().into_iter().flatten();
            // Past the last row there is no ink.
            let lower = rows.get(1).map(Vec::as_slice).unwrap_or_default();
            let lower = lower.iter().copied().chain(std::iter::repeat(true));
            out.extend(upper.zip(lower).map(|pair| match pair {
                (true, true) => ' ',
                (false, false) => '\u{2588}',
                (true, false) => '\u{2584}',
                (false, true) => '\u{2580}',
            }));
            out.push('\n');
        }
        out
    }

    /// A black and white PNG of `size` times `size` pixels, or one pixel for each module if that is more.
    pub(crate) fn png(&self, size: usize) -> Vec<u8> {
        let modules = self.0.len();
        let size = size.max(modules);
        let dark = |x: usize, y: usize| {
            let row = self.0.get(y * modules / size);
            row.and_then(|row| row.get(x * modules / size).copied())
                .unwrap_or_default()
        };
        let mut pixels = Vec::with_capacity(size * (size / 8 + 2));
        for y in 0..size {
            // Each row starts with its filter: none.
            pixels.push(0);
            for start in (0..size).step_by(8) {
                let bit = |x: usize| u8::from(x < size && !dark(x, y));
                pixels.push((start..start + 8).fold(0, |byte, x| byte << 1 | bit(x)));
            }
        }
        let side = u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes();
        let mut header = [side, side].concat();
        // One bit per pixel, grey; the only compression, filter and order there are.
        header.extend([1, 0, 0, 0, 0]);
        let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
        put_chunk(&mut png, b"IHDR", &header);
        put_chunk(&mut png, b"IDAT", &zlib_stored(&pixels));
        put_chunk(&mut png, b"IEND", &[]);
        png
    }

    /// As [`Code::png`], as a URL.
    pub(crate) fn data_url(&self, size: usize) -> String {
        let picture = BASE64.encode(self.png(size));
        format!("data:image/png;base64,{picture}")
    }
}

fn put_chunk(out: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
    out.extend(len.to_be_bytes());
    let start = out.len();
    out.extend(kind);
    out.extend(data);
    let crc = crc32(out.get(start..).unwrap_or_default());
    out.extend(crc.to_be_bytes());
}

/// A zlib stream (RFC 1950) that holds the data as it is: two kilobytes are not worth a compressor.
fn zlib_stored(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let blocks = data.chunks(usize::from(u16::MAX));
    let last = blocks.len().saturating_sub(1);
    for (at, block) in blocks.enumerate() {
        let len = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(u8::from(at == last));
        out.extend(len.to_le_bytes());
        out.extend((!len).to_le_bytes());
        out.extend(block);
    }
    out.extend(adler32(data).to_be_bytes());
    out
}

/// The checksum of PNG chunks (ISO 3309).
fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let carry = crc & 1 != 0;
            crc >> 1 ^ if carry { 0xedb8_8320 } else { 0 }
        })
    })
}

/// The checksum of zlib streams.
fn adler32(data: &[u8]) -> u32 {
    const PRIME: u32 = 65521;
    let (low, high) = data.iter().fold((1, 0), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % PRIME;
        (low, (high + low) % PRIME)
    });
    high << 16 | low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_the_known_ones() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        assert_eq!(
            zlib_stored(b"ab"),
            b"\x78\x01\x01\x02\x00\xfd\xffab\x01\x26\x00\xc4"
        );
    }

    #[test]
    fn formats_show_the_same_modules() {
        let code = Code::new("https://login.test/a/0123456789abcdef").expect("short enough");
        let large = code.draw(Format::Large);
        let rows: Vec<Vec<char>> = large.lines().map(|line| line.chars().collect()).collect();
        assert_eq!(rows.len(), code.0.len());
        assert_eq!(code.draw(Format::Ascii), large.replace('\u{2588}', "#"));
        let light = |x: usize, y: usize| rows.get(y).is_some_and(|row| row[2 * x] != ' ');
        for (half, line) in code.draw(Format::Small).lines().enumerate() {
            for (x, shown) in line.chars().enumerate() {
                let want = match (light(x, 2 * half), light(x, 2 * half + 1)) {
                    (true, true) => '\u{2588}',
                    (true, false) => '\u{2580}',
                    (false, true) => '\u{2584}',
                    (false, false) => ' ',
                };
                assert_eq!(shown, want, "{x} {half}");
            }
        }
    }

    #[test]
    fn the_format_follows_the_locale() {
        let auto = |locale| Format::from_name("auto", locale);
        assert_eq!(auto("C.UTF-8"), Some(Format::Small));
        assert_eq!(auto("POSIX"), Some(Format::Ascii));
        assert_eq!(Format::from_name("tiny", ""), None);
    }
}
