//! `TS_PARENT_DEATH_FD`: a harness hands us a pipe; when its other end closes, the harness is gone and so are we.

use std::io::{self, Read as _};

/// Calls `gone` from a thread of its own once the pipe at `fd` ends. File descriptors 0 to 2 are not taken, as the
/// originals do.
pub fn watch(fd: i32, gone: impl FnOnce() + Send + 'static) -> io::Result<()> {
    if fd <= 2 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("TS_PARENT_DEATH_FD must be above 2, not {fd}"),
        ));
    }
    let mut pipe = sys::inherited_file(fd)?;
    std::thread::Builder::new()
        .name("lifeline".into())
        .stack_size(64 * 1024)
        .spawn(move || {
            let mut byte = [0];
            loop {
                match pipe.read(&mut byte) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => break,
                }
            }
            gone();
        })?;
    Ok(())
}
