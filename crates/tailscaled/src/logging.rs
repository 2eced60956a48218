//! Log lines on standard error, as the originals write them, and into the log tap.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use node::LogTap;
use rt::RateLimit;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::prelude::*;

/// Lines of one call site: this many at once, then one per [`EVERY`].
const BURST: u32 = 20;
const EVERY: Duration = Duration::from_secs(2);

/// Starts logging: `verbose` 0 shows information and worse, 1 and 2 what the originals tag `[v1]` and `[v2]`.
pub(crate) fn start(verbose: i64, tap: LogTap) {
    let layer = Lines {
        verbose,
        stamp: wants_timestamps(),
        tap,
        limits: Mutex::default(),
    };
    if tracing_subscriber::registry()
        .with(layer)
        .try_init()
        .is_err()
    {
        eprintln!("logging was started twice");
    }
}

/// Terminals need no time stamps, and the journal has its own.
fn wants_timestamps() -> bool {
    let under_systemd = started_by_init()
        && std::fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim() == "systemd");
    !(std::io::stderr().is_terminal() || under_systemd)
}

fn started_by_init() -> bool {
    std::os::unix::process::parent_id() == 1
}

struct Lines {
    verbose: i64,
    stamp: bool,
    tap: LogTap,
    limits: Mutex<BTreeMap<usize, Site>>,
}

fn level_of(level: Level) -> u8 {
    match level {
        Level::ERROR | Level::WARN | Level::INFO => 0,
        Level::DEBUG => 1,
        Level::TRACE => 2,
    }
}

/// One place in the code that logs.
struct Site {
    limit: RateLimit,
    /// Whether its reader knows that lines are left out.
    told: bool,
}

impl Lines {
    /// A line that repeats is worth a few copies, not a full disk. The first that is left out is replaced by a note.
    fn limited(&self, metadata: &'static Metadata<'static>, text: String) -> Option<String> {
        let place = std::ptr::from_ref(metadata) as usize;
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Site {
            limit: RateLimit::new(BURST, EVERY),
            told: false,
        };
        let site = limits.entry(place).or_insert_with(fresh);
        if site.limit.allow(rt::now()) {
            site.told = false;
            return Some(text);
        }
        let first = !std::mem::replace(&mut site.told, true);
        first.then(|| format!("[RATELIMIT] lines like this are left out for a while: {text}"))
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        // Other people's crates log per packet and per connection; their warnings are enough.
        let foreign = ["hyper", "h2", "rustls", "mio", "tokio"];
        let from = metadata.target().split("::").next().unwrap_or_default();
        !foreign.contains(&from) || *metadata.level() <= Level::WARN
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let level = level_of(*event.metadata().level());
        let shown = i64::from(level) <= self.verbose;
        let mut text = Text::default();
        event.record(&mut text);
        let Some(text) = self.limited(event.metadata(), text.0) else {
            return;
        };
        if shown {
            let stamp = if self.stamp {
                timestamp()
            } else {
                String::new()
            };
            // Standard error may be closed; there is nobody left to tell.
            let _ = writeln!(std::io::stderr().lock(), "{stamp}{text}");
        }
        self.tap.publish(level, || text);
    }
}

/// The date and time of Go's standard logger, in local time.
fn timestamp() -> String {
    let seconds = rt::wall().as_unix_secs();
    let zoned = jiff::Timestamp::from_second(seconds)
        .unwrap_or_default()
        .to_zoned(jiff::tz::TimeZone::system());
    zoned.strftime("%Y/%m/%d %H:%M:%S ").to_string()
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
