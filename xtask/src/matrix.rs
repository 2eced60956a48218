//! `cargo xtask matrix`: {our command line, Go's} at {our daemon, Go's}, the same commands at each, and where they differ.
//!
//! The originals come from `TS_GO_TAILSCALED`, `TS_GO_TAILSCALE`, `TS_GO_DERPER` and `TS_HEADSCALE`. Each of the four pairs gets a
//! headscale, a relay and a peer (Go's) of its own, so that what one does to its tailnet is not seen by the next. Go's command
//! line at Go's daemon is the truth: the table tells where another pair's exit code, output or errors are not equal to its own.

mod normal;
mod steps;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use testkit::originals::{
    Daemon, HeadscaleOptions, TailscaledOptions, daemon, go_derper, headscale, program,
};

use self::steps::{Step, Tailnet};

/// A command line and a daemon: ours or Go's.
#[derive(Clone, Copy)]
struct Pair {
    our_cli: bool,
    our_daemon: bool,
}

/// The truth first.
const PAIRS: [Pair; 4] = [
    Pair {
        our_cli: false,
        our_daemon: false,
    },
    Pair {
        our_cli: true,
        our_daemon: false,
    },
    Pair {
        our_cli: false,
        our_daemon: true,
    },
    Pair {
        our_cli: true,
        our_daemon: true,
    },
];

impl Pair {
    fn name(self) -> String {
        let whose = |ours| if ours { "ours" } else { "Go" };
        format!("{} at {}", whose(self.our_cli), whose(self.our_daemon))
    }
}

/// The four programs of the original and our two.
struct Programs {
    go_tailscaled: PathBuf,
    go_tailscale: PathBuf,
    tailscaled: PathBuf,
    tailscale: PathBuf,
}

/// Builds our programs, runs all pairs and prints the table.
pub(crate) fn run() -> ExitCode {
    let Some(programs) = programs() else {
        return ExitCode::FAILURE;
    };
    if !built() {
        return ExitCode::FAILURE;
    }
    let mut columns = Vec::new();
    for pair in PAIRS {
        eprintln!("{}:", pair.name());
        match outcomes(&programs, pair) {
            Some(column) => columns.push(column),
            None => return ExitCode::FAILURE,
        }
    }
    print(&columns);
    ExitCode::SUCCESS
}

fn programs() -> Option<Programs> {
    const TASK: &str = "matrix";
    let target = crate::target_dir().join("debug");
    program(TASK, "TS_GO_DERPER")?;
    program(TASK, "TS_HEADSCALE")?;
    Some(Programs {
        go_tailscaled: program(TASK, "TS_GO_TAILSCALED")?,
        go_tailscale: program(TASK, "TS_GO_TAILSCALE")?,
        tailscaled: target.join("tailscaled"),
        tailscale: target.join("tailscale"),
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "xtask is a tool for developers: it starts cargo"
)]
fn built() -> bool {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["build", "--package", "tailscale", "--package", "tailscaled"];
    match Command::new(cargo).args(args).status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("cannot start cargo: {error}");
            false
        }
    }
}

/// What a command left, without what changes between two runs.
#[derive(Clone, PartialEq, Eq)]
struct Outcome {
    code: Option<i32>,
    stdout: Vec<String>,
    stderr: Vec<String>,
}

/// Runs all steps with one pair.
fn outcomes(programs: &Programs, pair: Pair) -> Option<Vec<(Step, Outcome)>> {
    let name = pair.name();
    let derper = go_derper(&name)?;
    let options = HeadscaleOptions {
        derp_map: Some(derper.derp_map_yaml()),
        ..HeadscaleOptions::default()
    };
    let control = headscale(&name, &options)?;
    let [ann, bea] = ["ann", "bea"].map(|name| control.create_user(name));
    let program = if pair.our_daemon {
        &programs.tailscaled
    } else {
        &programs.go_tailscaled
    };
    let node = daemon(program, &relayed_only());
    let peer = daemon(&programs.go_tailscaled, &relayed_only());
    let tailnet = Tailnet {
        url: control.url(),
        keys: [&ann, &ann, &bea].map(|user| control.auth_key(user, &[])),
    };
    join(programs, &peer, &tailnet)?;
    let cli = if pair.our_cli {
        &programs.tailscale
    } else {
        &programs.go_tailscale
    };
    let run = |step: Step| {
        eprintln!("  tailscale {}", step.shown());
        let args = step.args(&tailnet);
        let done = until_steady(&step, || call(cli, &node, &args, step.limit_secs()));
        done.map(|outcome| (step, outcome))
    };
    steps::all().into_iter().map(run).collect()
}

/// Without direct paths, which may or may not have come up between two runs.
fn relayed_only() -> TailscaledOptions {
    TailscaledOptions {
        env: vec![("TS_DEBUG_ALWAYS_USE_DERP".to_owned(), "1".to_owned())],
        ..TailscaledOptions::default()
    }
}

/// Logs the peer in, with the original's own command line.
fn join(programs: &Programs, peer: &Daemon, tailnet: &Tailnet) -> Option<()> {
    let args = [
        "up".to_owned(),
        format!("--login-server={}", tailnet.url),
        format!("--auth-key={}", tailnet.keys[0]),
        "--hostname=peer".to_owned(),
        "--timeout=60s".to_owned(),
    ];
    let joined = call(&programs.go_tailscale, peer, &args, 90)?;
    if joined.code != Some(0) {
        eprintln!("the peer did not join: {}", joined.stderr.join("\n"));
        return None;
    }
    Some(())
}

/// Some commands show what another end must have noticed first: these are repeated until they show it.
fn until_steady(step: &Step, call: impl Fn() -> Option<Outcome>) -> Option<Outcome> {
    let mut outcome = call()?;
    for _ in 0..40 {
        if step.is_steady(&outcome.stdout) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
        outcome = call()?;
    }
    Some(outcome)
}

/// Runs one command line; `timeout` ends what does not end by itself.
#[expect(
    clippy::disallowed_methods,
    reason = "xtask is a tool for developers: it starts the programs to compare"
)]
fn call(program: &Path, daemon: &Daemon, args: &[String], limit_secs: u32) -> Option<Outcome> {
    let socket = daemon.socket();
    let output = Command::new("timeout")
        .arg(format!("{limit_secs}s"))
        .arg(program)
        .arg("--socket")
        .arg(&socket)
        .args(args)
        .env_clear()
        .envs(std::env::vars().filter(|(name, _)| matches!(name.as_str(), "PATH" | "HOME")))
        .env("USER", "ann")
        .output();
    match output {
        Ok(output) => Some(Outcome {
            code: output.status.code(),
            stdout: normal::lines(&String::from_utf8_lossy(&output.stdout)),
            stderr: normal::lines(&String::from_utf8_lossy(&output.stderr)),
        }),
        Err(error) => {
            eprintln!("cannot run `{}`: {error}", program.display());
            None
        }
    }
}

/// The table, and then each difference once.
fn print(columns: &[Vec<(Step, Outcome)>]) {
    let Some((truth, others)) = columns.split_first() else {
        return;
    };
    println!(
        "| command | exit | says | {} |",
        PAIRS[1..]
            .iter()
            .map(|pair| pair.name())
            .collect::<Vec<_>>()
            .join(" | ")
    );
    println!("|---|---|---|{}", "---|".repeat(others.len()));
    let mut notes: Vec<String> = Vec::new();
    for (at, (step, wanted)) in truth.iter().enumerate() {
        let cells = others.iter().map(|column| {
            let Some((_, got)) = column.get(at) else {
                return "missing".to_owned();
            };
            let difference = difference(wanted, got);
            if difference.is_empty() {
                return "same".to_owned();
            }
            let note = format!("`{}`\n{difference}", step.shown());
            let number = notes.iter().position(|known| *known == note);
            let number = number.unwrap_or_else(|| {
                notes.push(note);
                notes.len() - 1
            });
            format!("differs ({})", number + 1)
        });
        let cells: Vec<String> = cells.collect();
        let code = wanted
            .code
            .map_or_else(|| "-".to_owned(), |code| code.to_string());
        println!(
            "| `{}` | {code} | {} | {} |",
            step.shown(),
            first_words(wanted),
            cells.join(" | ")
        );
    }
    for (at, note) in notes.iter().enumerate() {
        println!("\n({}) {note}", at + 1);
    }
}

/// The start of what the truth says, as a table shows it.
fn first_words(outcome: &Outcome) -> String {
    let lines = outcome.stderr.iter().chain(&outcome.stdout);
    let mut told = lines.filter(|line| !line.trim().is_empty());
    let line = told.next().map_or("", |line| line.trim());
    let start: String = line.chars().take(60).collect();
    start.replace('|', "/")
}

/// How `got` is not `wanted`, line by line; empty if it is.
fn difference(wanted: &Outcome, got: &Outcome) -> String {
    let mut out = String::new();
    if wanted.code != got.code {
        out += &format!("  exit code {:?} instead of {:?}\n", got.code, wanted.code);
    }
    for (stream, wanted, got) in [
        ("stdout", &wanted.stdout, &got.stdout),
        ("stderr", &wanted.stderr, &got.stderr),
    ] {
        for line in normal::only_in_first(wanted, got) {
            out += &format!("  {stream} - {line}\n");
        }
        for line in normal::only_in_first(got, wanted) {
            out += &format!("  {stream} + {line}\n");
        }
        if wanted != got
            && normal::only_in_first(wanted, got).is_empty()
            && normal::only_in_first(got, wanted).is_empty()
        {
            out += &format!("  {stream}: the same lines in another order\n");
        }
    }
    out
}
