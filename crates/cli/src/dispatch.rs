//! From a command line to the command that it names.

use std::io::ErrorKind;
use std::path::PathBuf;

use goflag::{FlagSet, Parsed, Stop};

use crate::command::{Act, Command, Context, Env, Error, Io, default_socket};
use crate::daemon::Daemon;
use crate::table::ROOT;
use crate::text::mask_keys;
use crate::{docs, usage};

/// Runs one command line (without the program's name) and gives the exit code.
pub async fn run<'a>(args: Vec<String>, io: Io<'a>, env: &'a Env) -> u8 {
    let args = rewrite(args);
    let mut context = Context {
        io,
        env,
        daemon: Daemon::new(default_socket(), env),
    };
    match dispatch(&args, &mut context).await {
        Ok(()) => 0,
        Err(error) => finish(error, &args, &mut context),
    }
}

/// What the error means for the user: the text and the exit code.
fn finish(error: Error, args: &[String], context: &mut Context<'_>) -> u8 {
    match error {
        Error::Message(text) => context.err(text + "\n"),
        Error::Denied(text) => {
            context.err(text);
            if context.env.uid.is_some_and(|uid| uid != 0) {
                context.err(format!(
                    "\n\nUse 'sudo tailscale {}'.\nTo not require root, use 'sudo tailscale set --operator=$USER' once.",
                    mask_keys(&args.join(" "))
                ));
            }
            context.err("\n");
        }
        Error::Exit(code) => return code,
        Error::Help => return 0,
        // Compat: a Go program dies of SIGPIPE, which shells report as 141.
        Error::Stdout(error) if error.kind() == ErrorKind::BrokenPipe => return 141,
        Error::Stdout(error) => context.err(format!("write standard output: {error}\n")),
    }
    1
}

/// Spellings that are kept for old scripts.
fn rewrite(args: Vec<String>) -> Vec<String> {
    const NAMES: [(&str, &str); 2] = [
        ("authkey", "--auth-key"),
        ("posture-checking", "--report-posture"),
    ];
    let respell = |arg: String| {
        let bare = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
        let known = bare.and_then(|bare| {
            NAMES
                .iter()
                .find_map(|(old, new)| Some((bare.strip_prefix(old)?, new)))
        });
        match known {
            Some((rest, new)) if rest.is_empty() || rest.starts_with('=') => format!("{new}{rest}"),
            _ => arg,
        }
    };
    let args: Vec<String> = args.into_iter().map(respell).collect();
    match args.as_slice() {
        [one] if one == "-V" || one == "--version" => vec!["version".to_owned()],
        [one] if one == "help" => vec!["--help".to_owned()],
        _ => args,
    }
}

async fn dispatch(args: &[String], context: &mut Context<'_>) -> Result<(), Error> {
    if truthy(context.env.var("TS_DUMP_HELP")) {
        return context.out(docs::all_help(&ROOT));
    }
    let mut command = &ROOT;
    let mut path = vec![ROOT.name];
    let mut rest = args.to_vec();
    loop {
        let flags = (command.flags)().once();
        let parsed = match command.act {
            Act::NotBuilt => unbuilt_flags(&rest),
            Act::Run(_) | Act::Group => flags.read(rest.iter().cloned()),
        };
        let parsed = parsed.map_err(|stop| stopped(&stop, command, &flags, context))?;
        if path.len() == 1 && parsed.given("socket") {
            context.daemon = Daemon::new(PathBuf::from(parsed.string("socket")), context.env);
        }
        let first = parsed.args().first();
        let below = first.and_then(|name| {
            command
                .subs
                .iter()
                .find(|sub| sub.name.eq_ignore_ascii_case(name))
        });
        let Some(below) = below else {
            return act(command, &path.join(" "), &parsed, &flags, context).await;
        };
        rest = parsed.args()[1..].to_vec();
        command = below;
        path.push(below.name);
    }
}

/// The flags of a command that is not built are not known: only a leading request for help is.
fn unbuilt_flags(rest: &[String]) -> Result<Parsed, Stop> {
    let first = rest.first().map_or("", String::as_str);
    let help = matches!(first, "-h" | "--h" | "-help" | "--help");
    let known = if help || !first.starts_with('-') {
        rest
    } else {
        &[]
    };
    FlagSet::new("").read(known.iter().cloned())
}

fn stopped(stop: &Stop, command: &Command, flags: &FlagSet, context: &mut Context<'_>) -> Error {
    if let Stop::Bad(bad) = stop {
        context.err(mask_keys(&format!("{bad}\n")));
    }
    context.err(usage::usage(command, flags) + "\n");
    Error::Exit(stop.exit_code())
}

async fn act(
    command: &Command,
    path: &str,
    parsed: &Parsed,
    flags: &FlagSet,
    context: &mut Context<'_>,
) -> Result<(), Error> {
    match &command.act {
        Act::NotBuilt => Err(Error::Message(format!(
            "{path}: not built yet in this version"
        ))),
        Act::Group => Err(Error::Message(match parsed.args().first() {
            Some(unknown) => format!("{path}: unknown subcommand: {unknown}"),
            None => {
                let names: Vec<&str> = command.subs.iter().map(|sub| sub.name).collect();
                format!("{path}: missing subcommand: {}", names.join(", "))
            }
        })),
        Act::Run(run) => {
            let result = run(context, parsed).await;
            if matches!(result, Err(Error::Help)) {
                context.err(usage::usage(command, flags) + "\n");
            }
            result
        }
    }
}

/// Go's `ParseBool`, with anything else false.
fn truthy(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "TRUE" | "true" | "True")
}
