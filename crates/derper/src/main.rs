//! The relay server: the command line of the originals' `derper` around [`derpserver`].

mod flags;
mod keyfile;
mod log;
mod start;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = std::env::args();
    let program = args.next().unwrap_or_else(|| "derper".to_owned());
    let flags = match flags::parse(&program, args.collect::<Vec<_>>()) {
        Ok(flags) => flags,
        Err(end) => {
            eprint!("{end}");
            return ExitCode::from(end.exit_code());
        }
    };
    if flags.version {
        println!("{}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    log::init();
    match start::run(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("derper: {error:#}");
            ExitCode::FAILURE
        }
    }
}
