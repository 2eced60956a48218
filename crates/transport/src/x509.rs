//! The few facts about a certificate that TLS libraries keep to themselves. DER, X.690; fields as in RFC 5280 4.1.

use rustls_pki_types::UnixTime;

/// Serial number, subject's common name and validity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Big-endian, without sign byte.
    pub(crate) serial: Vec<u8>,
    pub(crate) common_name: Option<String>,
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
}

impl Facts {
    pub(crate) fn valid_at(&self, now: UnixTime) -> bool {
        (self.not_before..=self.not_after).contains(&now.as_secs())
    }
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// Reads a certificate; `None` if it is none.
pub(crate) fn facts(der: &[u8]) -> Option<Facts> {
    let mut outer = Reader(der);
    let mut certificate = Reader(outer.take(SEQUENCE)?);
    let mut tbs = Reader(certificate.take(SEQUENCE)?);
    if tbs.peek() == Some(VERSION) {
        tbs.take(VERSION)?;
    }
    let serial = tbs.take(INTEGER)?;
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    tbs.take(SEQUENCE)?; // signature algorithm
    tbs.take(SEQUENCE)?; // issuer
    let mut validity = Reader(tbs.take(SEQUENCE)?);
    let (not_before, not_after) = (validity.time()?, validity.time()?);
    let subject = tbs.take(SEQUENCE)?;
    Some(Facts {
        serial: serial.get(zeros..)?.to_vec(),
        common_name: common_name(subject),
        not_before,
        not_after,
    })
}

fn common_name(subject: &[u8]) -> Option<String> {
    let mut sets = Reader(subject);
    while let Some(set) = sets.take(SET) {
        let mut attributes = Reader(set);
        while let Some(attribute) = attributes.take(SEQUENCE) {
            let mut attribute = Reader(attribute);
            let oid = attribute.take(OID)?;
            let (_, value) = attribute.any()?;
            if oid == COMMON_NAME {
                return String::from_utf8(value.to_vec()).ok();
            }
        }
    }
    None
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk::<2>()?;
        let mut len = usize::from(first);
        if first >= 0x80 {
            let count = usize::from(first & 0x7f);
            let (bytes, after) = rest.split_at_checked(count)?;
            if !(1..=4).contains(&count) {
                return None;
            }
            len = bytes
                .iter()
                .fold(0, |len, byte| len << 8 | usize::from(*byte));
            rest = after;
        }
        let (value, after) = rest.split_at_checked(len)?;
        self.0 = after;
        Some((tag, value))
    }

    fn take(&mut self, want: u8) -> Option<&'a [u8]> {
        let (tag, value) = self.any()?;
        (tag == want).then_some(value)
    }

    /// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` as seconds since 1970; before that counts as 1970.
    fn time(&mut self) -> Option<u64> {
        let (tag, text) = self.any()?;
        let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (year, rest) = match tag {
            UTC_TIME => {
                let (year, rest) = text.split_at_checked(2)?;
                let year: i64 = year.parse().ok()?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            GENERALIZED_TIME => {
                let (year, rest) = text.split_at_checked(4)?;
                (year.parse().ok()?, rest)
            }
            _ => return None,
        };
        let two = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
        let (month, day) = (two(0)?, two(2)?);
        let (hour, minute, second) = (two(4)?, two(6)?, two(8)?);
        if rest.len() != 10 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let days = days_since_1970(year, month, day);
        let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
        Some(u64::try_from(seconds).unwrap_or(0))
    }
}

/// Days from civil date, counting years from March so that the leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + day_of_year - 719_468
}
