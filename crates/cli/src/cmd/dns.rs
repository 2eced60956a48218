//! `tailscale dns`.

use std::fmt::Write as _;

use dns::{Answer, Kind, Name, Query, Rcode, Response};
use goflag::{Parsed, quote};
use localapi::DnsAnswer;
use serde::Serialize;
use tailcfg::Resolver;

use crate::command::{Context, Error};
use crate::text::json;
use crate::text::table::Columns;

/// What `--json` prints (the original's `tsdnsjsonv0.QueryResponse`).
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    name: String,
    query_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolvers: Option<Vec<Server>>,
    response_code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<Vec<Row>>,
}

/// A server that is asked.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Server {
    addr: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bootstrap_resolution: Vec<String>,
}

#[derive(Serialize)]
struct Row {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "TTL")]
    ttl: u32,
    #[serde(rename = "Class")]
    class: String,
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Body")]
    body: String,
}

pub(crate) async fn query(context: &mut Context<'_>, parsed: &Parsed) -> Result<(), Error> {
    let (name, kind) = match parsed.args() {
        [] => return Err("missing required argument: name".into()),
        [name] => (name, "A".to_owned()),
        [name, rest @ ..] => {
            let flags: Vec<&str> = rest
                .iter()
                .map(|argument| &**argument)
                .filter(|argument| argument.starts_with('-'))
                .collect();
            if !flags.is_empty() {
                return Err(format!(
                    "unexpected flags after query name: {}; see 'tailscale dns query --help'",
                    flags.join(", ")
                )
                .into());
            }
            let [kind] = rest else {
                let more = rest.get(1..).unwrap_or_default().join(" ");
                return Err(format!("unexpected extra arguments: {more}").into());
            };
            (name, kind.to_uppercase())
        }
    };
    let answer = context.dns_query(name, &kind).await;
    let answer = answer.map_err(|error| crate::daemon::prefixed("failed to query DNS", &error))?;
    let report = Report::new(name, &kind, answer)?;
    if parsed.bool("json") {
        let text = json::indent(&json::encode(&report), "", "  ");
        return context.out(format!("{text}\n"));
    }
    context.out(report.to_text())
}

impl Report {
    fn new(name: &str, kind: &str, answer: DnsAnswer) -> Result<Self, Error> {
        let unreadable = |why: &str| Error::from(format!("failed to parse DNS response: {why}"));
        let asked: Name = name.parse().map_err(|_| unreadable("for no domain name"))?;
        let asked = Query::new(1, &asked, Kind::named(kind).unwrap_or(Kind::A));
        let response = Response::parse(&answer.bytes.0, &asked, 1);
        let response = response.ok_or_else(|| unreadable("it is not the answer"))?;
        let answers = match response.rcode {
            Rcode::NO_ERROR => {
                let answers = response.answers();
                let answers =
                    answers.map_err(|error| format!("failed to parse DNS answers: {error}"))?;
                Some(answers.into_iter().map(Row::new).collect())
            }
            _ => None,
        };
        Ok(Self {
            name: name.to_owned(),
            query_type: kind.to_owned(),
            resolvers: answer
                .resolvers
                .filter(|all| !all.is_empty())
                .map(|all| all.into_iter().map(Server::new).collect()),
            response_code: code(response.rcode),
            answers,
        })
    }

    fn to_text(&self) -> String {
        let mut out = format!(
            "DNS query for {} ({}) using internal resolver:\n\n",
            quote(&self.name),
            self.query_type
        );
        match self.resolvers.as_deref().unwrap_or_default() {
            [one] => {
                let _ = writeln!(out, "Forwarding to resolver: {}", one.shown());
            }
            all => {
                out.push_str("Multiple resolvers available:\n");
                for one in all {
                    let _ = writeln!(out, "  - {}", one.shown());
                }
            }
        }
        let _ = writeln!(out, "\nResponse code: {}\n", self.response_code);
        let Some(answers) = &self.answers else {
            out.push_str("No answers were returned.\n");
            return out;
        };
        if answers.is_empty() {
            out.push_str("  (no answers found)\n");
        }
        let mut rows = "Name\tTTL\tClass\tType\tBody\n----\t---\t-----\t----\t----\n".to_owned();
        for row in answers {
            let Row {
                name,
                ttl,
                class,
                kind,
                body,
            } = row;
            let _ = writeln!(rows, "{name}\t{ttl}\t{class}\t{kind}\t{body}");
        }
        out.push_str(&Columns { min: 0, pad: 2 }.align(&rows));
        out.push('\n');
        out
    }
}

impl Server {
    pub(super) fn new(resolver: Resolver) -> Self {
        let ips = resolver.bootstrap_resolution.iter();
        Self {
            addr: resolver.addr,
            bootstrap_resolution: ips.map(ToString::to_string).collect(),
        }
    }

    pub(super) fn shown(&self) -> String {
        match &self.bootstrap_resolution[..] {
            [] => self.addr.clone(),
            ips => format!("{} (bootstrap: [{}])", self.addr, ips.join(" ")),
        }
    }
}

impl Row {
    fn new(answer: Answer) -> Self {
        Self {
            name: answer.name.to_string(),
            ttl: answer.ttl,
            class: match answer.class {
                1 => "ClassINET".to_owned(),
                other => other.to_string(),
            },
            kind: match answer.kind.name() {
                Some(name) => format!("Type{name}"),
                None => answer.kind.0.to_string(),
            },
            body: answer.text,
        }
    }
}

/// In the words of Go's `dnsmessage`.
fn code(rcode: Rcode) -> String {
    match rcode {
        Rcode::NO_ERROR => "RCodeSuccess".to_owned(),
        Rcode::FORM_ERR => "RCodeFormatError".to_owned(),
        Rcode::SERV_FAIL => "RCodeServerFailure".to_owned(),
        Rcode::NX_DOMAIN => "RCodeNameError".to_owned(),
        Rcode::NOT_IMP => "RCodeNotImplemented".to_owned(),
        Rcode::REFUSED => "RCodeRefused".to_owned(),
        Rcode(other) => other.to_string(),
    }
}
