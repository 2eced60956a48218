//! Questions and answers as they are sent (RFC 1035, 4).

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;

use crate::{BadName, Name};

const HEADER_LEN: usize = 12;
/// What a client takes by UDP that does not say more.
const MIN_UDP: u16 = 512;
/// The longest answer by UDP (the original's limit).
pub const MAX_UDP: u16 = 4095;
const CLASS_IN: u16 = 1;

const QR: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AA: u16 = 0x0400;
const TC: u16 = 0x0200;
const RD: u16 = 0x0100;
const RA: u16 = 0x0080;

/// Seconds for which others may keep our answers, and our "no".
const TTL: u32 = 5;
const NEGATIVE_TTL: u32 = 10;
/// The other times of our zones: refresh, retry, expire.
const SOA_TIMES: [u32; 3] = [10, 10, 10];

/// What is asked for. <https://www.iana.org/assignments/dns-parameters>
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u16);

impl Kind {
    /// IPv4 address.
    pub const A: Self = Self(1);
    /// Name servers.
    pub const NS: Self = Self(2);
    /// Start of a zone.
    pub const SOA: Self = Self(6);
    /// Another name for a name.
    pub const CNAME: Self = Self(5);
    /// Name of an address.
    pub const PTR: Self = Self(12);
    /// What machine it is.
    pub const HINFO: Self = Self(13);
    /// Who takes mail.
    pub const MX: Self = Self(15);
    /// Text.
    pub const TXT: Self = Self(16);
    /// IPv6 address.
    pub const AAAA: Self = Self(28);
    /// Who serves what (RFC 2782).
    pub const SRV: Self = Self(33);
    /// EDNS(0).
    pub const OPT: Self = Self(41);
    /// A whole zone.
    pub const AXFR: Self = Self(252);
    /// All there is.
    pub const ANY: Self = Self(255);

    /// Kinds and what people call them.
    const NAMES: [(Self, &str); 14] = [
        (Self::A, "A"),
        (Self::AAAA, "AAAA"),
        (Self::ANY, "ALL"),
        (Self::CNAME, "CNAME"),
        (Self::HINFO, "HINFO"),
        (Self(14), "MINFO"),
        (Self::MX, "MX"),
        (Self::NS, "NS"),
        (Self::OPT, "OPT"),
        (Self::PTR, "PTR"),
        (Self::SOA, "SOA"),
        (Self::SRV, "SRV"),
        (Self::TXT, "TXT"),
        (Self(11), "WKS"),
    ];

    /// The kind that people call this, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut names = Self::NAMES.iter();
        let found = names.find(|(_, known)| known.eq_ignore_ascii_case(name.trim()));
        found.map(|(kind, _)| *kind)
    }

    /// What people call it.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let mut names = Self::NAMES.iter();
        names.find(|(kind, _)| *kind == self).map(|(_, name)| *name)
    }
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rcode(pub u8);

impl Rcode {
    /// All is well.
    pub const NO_ERROR: Self = Self(0);
    /// The question cannot be read.
    pub const FORM_ERR: Self = Self(1);
    /// It could not be answered.
    pub const SERV_FAIL: Self = Self(2);
    /// There is no such name.
    pub const NX_DOMAIN: Self = Self(3);
    /// Such questions are not answered.
    pub const NOT_IMP: Self = Self(4);
    /// It is not answered to this client.
    pub const REFUSED: Self = Self(5);
}

/// A question, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    bytes: Vec<u8>,
    /// Where the question is in it.
    question: Range<usize>,
    /// The name.
    pub name: Name,
    /// What is asked for.
    pub kind: Kind,
    /// The class; almost always 1, the internet.
    pub class: u16,
    /// What the client takes by UDP.
    pub udp_len: u16,
}

/// No question that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadQuery {
    /// Nobody waits for an answer: it is too short, or an answer itself.
    Silent,
    /// The answer says what is wrong.
    Answered(Vec<u8>),
}

impl BadQuery {
    /// The answer, if one is due.
    pub fn reply(self) -> Option<Vec<u8>> {
        match self {
            Self::Silent => None,
            Self::Answered(reply) => Some(reply),
        }
    }
}

impl Query {
    /// Reads a message.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadQuery> {
        let flags = half(bytes, 2).filter(|flags| flags & QR == 0 && bytes.len() >= HEADER_LEN);
        let flags = flags.ok_or(BadQuery::Silent)?;
        if flags & OPCODE != 0 {
            return Err(BadQuery::Answered(refusal(bytes, flags, Rcode::NOT_IMP)));
        }
        let malformed = || BadQuery::Answered(refusal(bytes, flags, Rcode::FORM_ERR));
        if half(bytes, 4) != Some(1) {
            return Err(malformed());
        }
        let (name, at) = Name::read(bytes, HEADER_LEN).map_err(|_| malformed())?;
        // A name that refers to the header would be another one in the answer.
        if at - HEADER_LEN != name.len() {
            return Err(malformed());
        }
        let (Some(kind), Some(class)) = (half(bytes, at), half(bytes, at + 2)) else {
            return Err(malformed());
        };
        let kind = Kind(kind);
        let question = HEADER_LEN..at + 4;
        let mut udp_len = MIN_UDP;
        for record in records(bytes, question.end) {
            let record = record.map_err(|_| malformed())?;
            if record.kind == Kind::OPT {
                udp_len = record.class.clamp(MIN_UDP, MAX_UDP);
            }
        }
        Ok(Self {
            bytes: bytes.to_vec(),
            question,
            name,
            kind,
            class,
            udp_len,
        })
    }

    /// The message for a server, with another id, and without a promise to take more than we do.
    #[must_use]
    pub fn to_send(&self, id: u16) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        put(&mut bytes, 0, id);
        let opt = records(&self.bytes, self.question.end)
            .flatten()
            .find(|record| record.kind == Kind::OPT);
        if let Some(opt) = opt.filter(|opt| opt.class > MAX_UDP) {
            put(&mut bytes, opt.class_at, MAX_UDP);
        }
        bytes
    }

    /// A message that asks for `name`.
    #[must_use]
    pub fn new(id: u16, name: &Name, kind: Kind) -> Self {
        let mut bytes = [id, RD, 1, 0, 0, 0].map(u16::to_be_bytes).concat();
        name.write(&mut bytes);
        bytes.extend([kind.0, CLASS_IN].map(u16::to_be_bytes).as_flattened());
        let question = HEADER_LEN..bytes.len();
        Self {
            bytes,
            question,
            name: name.clone(),
            kind,
            class: CLASS_IN,
            udp_len: MIN_UDP,
        }
    }

    /// The whole message.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Our own answer: addresses, with us as the authority.
    #[must_use]
    pub fn answer_addresses(&self, addresses: &[IpAddr]) -> Vec<u8> {
        let mut out = self.head(Rcode::NO_ERROR, addresses.len(), 0);
        for address in addresses {
            let (kind, data) = match address {
                IpAddr::V4(v4) => (Kind::A, v4.octets().to_vec()),
                IpAddr::V6(v6) => (Kind::AAAA, v6.octets().to_vec()),
            };
            record(&mut out, &[0xc0, HEADER_LEN as u8], kind, TTL, &data);
        }
        out
    }

    /// Our own answer: the name of an address.
    #[must_use]
    pub fn answer_name(&self, name: &Name) -> Vec<u8> {
        let mut data = Vec::new();
        name.write(&mut data);
        let mut out = self.head(Rcode::NO_ERROR, 1, 0);
        record(&mut out, &[0xc0, HEADER_LEN as u8], Kind::PTR, TTL, &data);
        out
    }

    /// Our own answer without a record; `zone` with its serial is who says so, which lets others keep it (RFC 2308).
    #[must_use]
    pub fn answer_nothing(&self, rcode: Rcode, zone: Option<(&Name, u32)>) -> Vec<u8> {
        let mut out = self.head(rcode, 0, zone.iter().len());
        if let Some((zone, serial)) = zone {
            let (mut owner, mut data) = (Vec::new(), Vec::new());
            zone.write(&mut owner);
            // Who serves it and who answers for it: itself.
            zone.write(&mut data);
            zone.write(&mut data);
            data.extend_from_slice(&serial.to_be_bytes());
            for time in SOA_TIMES {
                data.extend_from_slice(&time.to_be_bytes());
            }
            data.extend_from_slice(&NEGATIVE_TTL.to_be_bytes());
            record(&mut out, &owner, Kind::SOA, NEGATIVE_TTL, &data);
        }
        out
    }

    fn head(&self, rcode: Rcode, answers: usize, authorities: usize) -> Vec<u8> {
        let asked = half(&self.bytes, 2).unwrap_or(0);
        let mut flags = QR | AA | asked & RD | u16::from(rcode.0);
        if asked & RD != 0 {
            flags |= RA;
        }
        let id = half(&self.bytes, 0).unwrap_or(0);
        let counts = [id, flags, 1, answers as u16, authorities as u16, 0];
        let mut out = counts.map(u16::to_be_bytes).concat();
        let question = self.bytes.get(self.question.clone());
        out.extend_from_slice(question.unwrap_or_default());
        out
    }
}

/// An answer to a question that cannot be read: nothing but what is wrong with it.
fn refusal(bytes: &[u8], flags: u16, rcode: Rcode) -> Vec<u8> {
    let id = half(bytes, 0).unwrap_or(0);
    let flags = QR | flags & (OPCODE | RD) | u16::from(rcode.0);
    [id, flags, 0, 0, 0, 0].map(u16::to_be_bytes).concat()
}

/// A server's answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    bytes: Vec<u8>,
    /// What came of it.
    pub rcode: Rcode,
    /// Whether there is more of it by TCP.
    pub truncated: bool,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("len", &self.bytes.len())
            .field("rcode", &self.rcode)
            .field("truncated", &self.truncated)
            .finish()
    }
}

impl Response {
    /// Reads a message; `None` if it is not the answer to `query` that was sent with `id`.
    #[must_use]
    pub fn parse(bytes: &[u8], query: &Query, id: u16) -> Option<Self> {
        let flags = half(bytes, 2).filter(|flags| flags & QR != 0)?;
        if half(bytes, 0)? != id || bytes.len() < HEADER_LEN {
            return None;
        }
        // Some say nothing but that they will not.
        if half(bytes, 4)? != 0 {
            let (name, at) = Name::read(bytes, HEADER_LEN).ok()?;
            let same = (half(bytes, at)?, half(bytes, at + 2)?) == (query.kind.0, query.class);
            if name != query.name || !same {
                return None;
            }
        } else if flags & 0xf == 0 {
            return None;
        }
        Some(Self {
            bytes: bytes.to_vec(),
            rcode: Rcode((flags & 0xf) as u8),
            truncated: flags & TC != 0,
        })
    }

    /// The records that answer; an error for what cannot be read.
    pub fn answers(&self) -> Result<Vec<Answer>, BadName> {
        let start = match half(&self.bytes, 4) {
            Some(1) => Name::read(&self.bytes, HEADER_LEN)?.1 + 4,
            _ => HEADER_LEN,
        };
        let all: Result<Vec<Record>, BadName> = records(&self.bytes, start).collect();
        let answers = all?.into_iter().filter(|record| record.section == 0);
        answers
            .map(|record| Answer::read(&self.bytes, &record))
            .collect()
    }

    /// The message for the client who asked.
    #[must_use]
    pub fn into_reply(mut self, query: &Query) -> Vec<u8> {
        put(&mut self.bytes, 0, half(&query.bytes, 0).unwrap_or(0));
        self.bytes
    }
}

/// A record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whose it is.
    pub name: Name,
    /// What it is.
    pub kind: Kind,
    /// Its class.
    pub class: u16,
    /// Seconds for which it may be kept.
    pub ttl: u32,
    /// What it says, as the originals' `dns query` shows it; empty for what it does not show.
    pub text: String,
}

impl Answer {
    fn read(message: &[u8], record: &Record) -> Result<Self, BadName> {
        let (name, _) = Name::read(message, record.range.start)?;
        let data = record.class_at + 8;
        let ttl = message
            .get(record.class_at + 2..)
            .and_then(<[u8]>::first_chunk);
        Ok(Self {
            name,
            kind: record.kind,
            class: record.class,
            ttl: ttl.map_or(0, |ttl| u32::from_be_bytes(*ttl)),
            text: text_of(message, record.kind, data..record.range.end)?,
        })
    }
}

fn text_of(message: &[u8], kind: Kind, data: Range<usize>) -> Result<String, BadName> {
    let bytes = message.get(data.clone()).ok_or(BadName::CutOff)?;
    let name = |offset: usize| Name::read(message, data.start + offset).map(|(name, _)| name);
    let field = |at: usize| half(bytes, at).ok_or(BadName::CutOff);
    Ok(match kind {
        Kind::A => {
            let octets: [u8; 4] = bytes.try_into().map_err(|_| BadName::CutOff)?;
            IpAddr::from(octets).to_string()
        }
        Kind::AAAA => {
            let octets: [u8; 16] = bytes.try_into().map_err(|_| BadName::CutOff)?;
            IpAddr::from(octets).to_string()
        }
        Kind::CNAME | Kind::NS | Kind::PTR => name(0)?.to_string(),
        Kind::MX => format!("{} (Priority={})", name(2)?, field(0)?),
        Kind::SRV => format!(
            "Target={}, Port={}, Priority={}, Weight={}",
            name(6)?,
            field(4)?,
            field(0)?,
            field(2)?
        ),
        Kind::TXT => texts(bytes)?,
        _ => String::new(),
    })
}

/// Strings, each behind its length.
fn texts(mut bytes: &[u8]) -> Result<String, BadName> {
    let mut all = Vec::new();
    while let Some((len, rest)) = bytes.split_first() {
        let (text, rest) = rest
            .split_at_checked(usize::from(*len))
            .ok_or(BadName::CutOff)?;
        all.push(format!("{:?}", String::from_utf8_lossy(text)));
        bytes = rest;
    }
    Ok(format!("[{}]", all.join(" ")))
}

/// Shortens a reply to what its client takes by UDP: whole records from its end go, and it is marked. EDNS stays.
pub fn limit(reply: &mut Vec<u8>, max: u16) {
    let max = usize::from(max);
    if reply.len() <= max {
        return;
    }
    let question_end = half(reply, 4)
        .filter(|count| *count == 1)
        .and_then(|_| Name::read(reply, HEADER_LEN).ok())
        .map(|(_, at)| at + 4);
    let end = question_end.unwrap_or(HEADER_LEN);
    let all: Vec<_> = records(reply, end).map_while(Result::ok).collect();
    let opt = all.iter().find(|record| record.kind == Kind::OPT);
    let opt = opt
        .and_then(|opt| reply.get(opt.range.clone()))
        .map(<[u8]>::to_vec);
    let room = max.saturating_sub(opt.as_ref().map_or(0, Vec::len));
    let kept = |record: &&Record| record.kind != Kind::OPT && record.range.end <= room;
    let kept: Vec<_> = all.iter().take_while(kept).collect();
    let mut counts = [0_u16; 3];
    for record in &kept {
        counts[record.section] += 1;
    }
    let end = kept.last().map_or(end, |record| record.range.end);
    reply.truncate(end.min(max));
    if let Some(opt) = opt {
        reply.extend_from_slice(&opt);
        counts[2] += 1;
    }
    for (at, count) in [6, 8, 10].into_iter().zip(counts) {
        put(reply, at, count);
    }
    let flags = half(reply, 2).unwrap_or(0);
    put(reply, 2, flags | TC);
}

/// Where a record is.
struct Record {
    /// Answers, authorities, the rest.
    section: usize,
    range: Range<usize>,
    kind: Kind,
    class: u16,
    class_at: usize,
}

/// The records behind the question, as far as they can be read.
fn records(message: &[u8], start: usize) -> impl Iterator<Item = Result<Record, BadName>> {
    let counts = [6, 8, 10].map(|at| half(message, at).unwrap_or(0));
    let sections = counts.into_iter().enumerate();
    let sections = sections.flat_map(|(section, count)| (0..count).map(move |_| section));
    let mut at = start;
    let mut failed = false;
    sections.map_while(move |section| {
        if failed {
            return None;
        }
        let record = read_record(message, at, section);
        match &record {
            Ok(record) => at = record.range.end,
            Err(_) => failed = true,
        }
        Some(record)
    })
}

fn read_record(message: &[u8], start: usize, section: usize) -> Result<Record, BadName> {
    let (_, at) = Name::read(message, start)?;
    let field = |offset: usize| half(message, at + offset).ok_or(BadName::CutOff);
    let (kind, class, len) = (Kind(field(0)?), field(2)?, field(8)?);
    let end = at + 10 + usize::from(len);
    if end > message.len() {
        return Err(BadName::CutOff);
    }
    Ok(Record {
        section,
        range: start..end,
        kind,
        class,
        class_at: at + 2,
    })
}

fn record(out: &mut Vec<u8>, owner: &[u8], kind: Kind, ttl: u32, data: &[u8]) {
    out.extend_from_slice(owner);
    out.extend([kind.0, CLASS_IN].map(u16::to_be_bytes).as_flattened());
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([*bytes.first()?, *bytes.last()?]))
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}
