//! Nodes of ours and of the original together; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    interop::main()
}
