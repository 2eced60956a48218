//! Log lines on standard error, dated as Go's `log` package does.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::prelude::*;

/// Sends the program's own log lines to standard error; call once.
pub(crate) fn init() {
    let layer = Lines.with_filter(tracing_subscriber::filter::filter_fn(|metadata| {
        let ours = ["derp", "derpserver", "derper", "rt"];
        let krate = metadata.target().split("::").next().unwrap_or_default();
        *metadata.level() <= Level::INFO && ours.contains(&krate)
    }));
    // It fails only if there is a subscriber already, which then gets the lines.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let now = i64::try_from(rt::wall().as_unix_nanos() / 1_000_000_000).unwrap_or_default();
        let date = jiff::Timestamp::from_second(now).unwrap_or_default();
        eprintln!("{} {}", date.strftime("%Y/%m/%d %H:%M:%S"), line.0);
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
