//! A whole tailnet on one machine in one command.

use std::process::ExitCode;

use clap::Parser as _;
use lab::{Command, Options, Report};

fn main() -> ExitCode {
    let mut options = Options::parse();
    options.once |= options.json;
    // Whoever started us with a lifeline may be killed: then nobody is there to end us.
    if let Some(error) = watch_parent().err() {
        eprintln!("lab: {error:#}");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start the async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(command) = &options.command {
        return match runtime.block_on(run(command)) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("lab: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let outcome = match options.tun {
        true => lab::run_in_namespaces(&options, stopped()),
        false => runtime.block_on(lab::run(&options, stopped())),
    };
    if options.json {
        let report = outcome
            .as_ref()
            .cloned()
            .unwrap_or_else(|_| Report::default());
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    }
    match outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn watch_parent() -> anyhow::Result<()> {
    match std::env::var("TS_PARENT_DEATH_FD") {
        Ok(fd) => Ok(os::lifeline::watch(fd.parse()?, || std::process::exit(1))?),
        Err(_) => Ok(()),
    }
}

async fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Admin(options) => {
            print!("{}", lab::admin::run(options).await?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Chaos(options) => {
            let report = lab::chaos::run(options, stopped()).await?;
            if options.json {
                println!("{}", serde_json::to_string(&report)?);
            }
            Ok(if report.ok {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}

/// Resolves at Ctrl-C or SIGTERM.
async fn stopped() {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}
