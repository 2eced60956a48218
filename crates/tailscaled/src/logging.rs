//! Log lines on standard error or in syslog, as the originals write them, and into the log tap.

mod limit;

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use node::LogTap;
use os::syslog::Syslog;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::prelude::*;

use crate::flags::Flags;
use crate::start::{Env, truthy};
use limit::{Limiter, Verdict};

/// Starts logging: `verbose` 0 shows information and worse, 1 and 2 what the originals tag `[v1]` and `[v2]`.
pub(crate) fn start(flags: &Flags, env: Env<'_>, tap: LogTap) -> Result<()> {
    let stamp = stamp_for(&Surroundings {
        terminal: std::io::stderr().is_terminal(),
        systemd: under_systemd(env),
        micros: truthy(env, "TS_DEBUG_LOG_TIME")?,
    });
    let limited = env("TS_DEBUG_LOG_RATE").as_deref() != Some("all");
    let (sink, problem) = if flags.syslog {
        match Syslog::connect() {
            Ok(syslog) => (Sink::Syslog(Mutex::new(syslog)), None),
            Err(error) => (Sink::Stderr(stamp), Some(error)),
        }
    } else {
        (Sink::Stderr(stamp), None)
    };
    let layer = Lines {
        verbose: flags.verbose,
        sink,
        tap,
        limiter: limited.then(Mutex::default),
    };
    if tracing_subscriber::registry()
        .with(layer)
        .try_init()
        .is_err()
    {
        eprintln!("logging was started twice");
    }
    if let Some(error) = problem {
        tracing::warn!(
            "syslog: connecting to syslog daemon failed; continuing to log to stderr: {error}"
        );
    }
    Ok(())
}

/// What decides on time stamps.
struct Surroundings {
    terminal: bool,
    systemd: bool,
    /// `TS_DEBUG_LOG_TIME`.
    micros: bool,
}

/// How lines begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stamp {
    None,
    Seconds,
    Micros,
}

/// Terminals need no time stamps, and the journal has its own.
fn stamp_for(around: &Surroundings) -> Stamp {
    match around {
        Surroundings { systemd: true, .. } => Stamp::None,
        Surroundings { micros: true, .. } => Stamp::Micros,
        Surroundings { terminal: true, .. } => Stamp::None,
        _ => Stamp::Seconds,
    }
}

fn under_systemd(env: Env<'_>) -> bool {
    // A unit may hide other processes from its own; then there is what only systemd sets.
    let is_systemd =
        || std::fs::read("/proc/1/stat").is_ok_and(|stat| stat.starts_with(b"1 (systemd) "));
    std::os::unix::process::parent_id() == 1 && (env("INVOCATION_ID").is_some() || is_systemd())
}

enum Sink {
    Stderr(Stamp),
    Syslog(Mutex<Syslog>),
}

impl Sink {
    fn write(&self, text: &str) {
        let text = text.strip_suffix('\n').unwrap_or(text);
        // Where there is nobody left to tell, there is nothing to do about it either.
        match self {
            Self::Stderr(stamp) => {
                let stamp = now_as(*stamp);
                let _ = writeln!(std::io::stderr().lock(), "{stamp}{text}");
            }
            Self::Syslog(syslog) => {
                let stamp = local_time().strftime("%b %e %H:%M:%S").to_string();
                let mut syslog = syslog.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = syslog.write(&stamp, text);
            }
        }
    }
}

/// The date and time of Go's standard logger, in local time.
fn now_as(stamp: Stamp) -> String {
    let format = match stamp {
        Stamp::None => return String::new(),
        Stamp::Seconds => "%Y/%m/%d %H:%M:%S ",
        Stamp::Micros => "%Y/%m/%d %H:%M:%S.%6f ",
    };
    local_time().strftime(format).to_string()
}

fn local_time() -> jiff::Zoned {
    let nanos = rt::wall().as_unix_nanos();
    jiff::Timestamp::from_nanosecond(nanos)
        .unwrap_or_default()
        .to_zoned(jiff::tz::TimeZone::system())
}

struct Lines {
    verbose: i64,
    sink: Sink,
    tap: LogTap,
    /// `None` lets everything through (`TS_DEBUG_LOG_RATE=all`).
    limiter: Option<Mutex<Limiter>>,
}

fn level_of(level: Level) -> u8 {
    match level {
        Level::ERROR | Level::WARN | Level::INFO => 0,
        Level::DEBUG => 1,
        Level::TRACE => 2,
    }
}

fn crate_of<'a>(metadata: &Metadata<'a>) -> &'a str {
    metadata.target().split("::").next().unwrap_or_default()
}

impl Lines {
    fn judge(&self, metadata: &'static Metadata<'static>, text: &str) -> Verdict {
        let Some(limiter) = &self.limiter else {
            return Verdict {
                line: true,
                ..Verdict::default()
            };
        };
        let place = std::ptr::from_ref(metadata) as usize;
        let mut limiter = limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.judge(place, text, rt::now())
    }

    fn write(&self, level: u8, text: String, to_tap: bool) {
        if i64::from(level) <= self.verbose {
            self.sink.write(&text);
        }
        if to_tap {
            self.tap.publish(level, || text);
        }
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        // Other people's crates log per packet and per connection; their warnings are enough.
        let foreign = ["hyper", "h2", "rustls", "mio", "tokio"];
        !foreign.contains(&crate_of(metadata)) || *metadata.level() <= Level::WARN
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let level = level_of(*metadata.level());
        // What the uploader says of uploads would be one more entry to upload.
        let to_tap = crate_of(metadata) != "logtail";
        let mut text = Text::default();
        event.record(&mut text);
        let verdict = self.judge(metadata, &text.0);
        let line = verdict.line.then_some(text.0);
        for text in [verdict.before, line, verdict.after].into_iter().flatten() {
            self.write(level, text, to_tap);
        }
    }
}

/// The message, then the other fields as `name=value`.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0.insert_str(0, &format!("{value:?}"));
        } else {
            let _ = write!(self.0, " {}={value:?}", field.name());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.0.insert_str(0, value);
        } else {
            let _ = write!(self.0, " {}={value}", field.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stamps_are_where_the_originals_are() {
        let check = |terminal, systemd, micros, expected| {
            let around = Surroundings {
                terminal,
                systemd,
                micros,
            };
            assert_eq!(
                stamp_for(&around),
                expected,
                "{terminal} {systemd} {micros}"
            );
        };
        check(false, false, false, Stamp::Seconds);
        check(true, false, false, Stamp::None);
        check(true, false, true, Stamp::Micros);
        check(false, false, true, Stamp::Micros);
        check(false, true, false, Stamp::None);
        check(false, true, true, Stamp::None);
    }

    #[test]
    fn stamps_are_gos() {
        assert_eq!(now_as(Stamp::None), "");
        let seconds = now_as(Stamp::Seconds);
        assert_eq!(seconds.len(), "2026/11/27 16:17:11 ".len(), "{seconds}");
        let micros = now_as(Stamp::Micros);
        assert_eq!(
            micros.len(),
            "2026/11/27 16:17:11.759686 ".len(),
            "{micros}"
        );
        assert_eq!(micros.as_bytes()[19], b'.');
    }
}
