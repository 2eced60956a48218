//! The command-line client.

use std::io::IsTerminal;
use std::process::ExitCode;

use cli::{Env, Io};

fn main() -> ExitCode {
    let args = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let vars = std::env::vars_os();
    let vars = vars
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .collect();
    let env = Env { vars, uid: uid() };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let code = runtime.block_on(async {
        let (mut stdin, mut stdout, mut stderr) =
            (tokio::io::stdin(), std::io::stdout(), std::io::stderr());
        let io = Io {
            stdin: &mut stdin,
            stdout: &mut stdout,
            stderr: &mut stderr,
            interactive,
        };
        cli::run(args, io, &env).await
    });
    // A read of a terminal that nobody types at would keep the runtime waiting.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// The effective user, from the owner of this process's own files.
#[cfg(unix)]
fn uid() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").ok().map(|own| own.uid())
}

#[cfg(not(unix))]
fn uid() -> Option<u32> {
    None
}
