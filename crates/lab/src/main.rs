//! A whole tailnet on one machine in one command.

use std::process::ExitCode;

use clap::Parser as _;
use lab::{Command, Options, Report};

fn main() -> ExitCode {
    let mut options = Options::parse();
    options.once |= options.json;
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
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("lab: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let outcome = runtime.block_on(lab::run(&options, stopped()));
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

async fn run(command: &Command) -> anyhow::Result<String> {
    match command {
        Command::Admin(options) => lab::admin::run(options).await,
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
