//! Child processes that end with us.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// A pipe whose reading end all children inherit: it closes when we end, however we end (`TS_PARENT_DEATH_FD`).
#[derive(Debug)]
pub(crate) struct Lifeline {
    read: OwnedFd,
    _write: OwnedFd,
}

impl Lifeline {
    pub(crate) fn new() -> io::Result<Self> {
        // The reading end must be inherited under its number, the writing end by nobody.
        let (read, write) = pipe_with(PipeFlags::empty())?;
        rustix::io::fcntl_setfd(&write, rustix::io::FdFlags::CLOEXEC)?;
        Ok(Self {
            read,
            _write: write,
        })
    }
}

/// One daemon process.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    name: String,
}

impl Daemon {
    /// Starts `program`; both its streams go to `log`.
    pub(crate) fn start(
        program: &Path,
        args: &[String],
        log: &Path,
        env: Option<(&str, &str)>,
        lifeline: &Lifeline,
    ) -> Result<Self> {
        let log_file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open the log `{}`", log.display()))?;
        #[expect(clippy::disallowed_methods, reason = "the lab starts the daemons")]
        let command = std::process::Command::new(program);
        let child = Command::from(command)
            .args(args)
            .envs(env)
            .env("TS_PARENT_DEATH_FD", lifeline.read.as_raw_fd().to_string())
            .env("TS_NO_LOGS_NO_SUPPORT", "true")
            // A node's machine has none; without this variable nobody is asked.
            .env_remove("DBUS_SYSTEM_BUS_ADDRESS")
            .stdin(Stdio::null())
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start `{}`", program.display()))?;
        Ok(Self {
            child,
            name: program.display().to_string(),
        })
    }

    /// The process's id, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Fails if the daemon has ended.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("`{}` has ended by itself: {status}", self.name),
        }
    }

    /// Ends the daemon the hard way (`SIGKILL`) and waits for its end. Fails if it had ended by itself.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.check_alive()?;
        self.child.kill().await?;
        Ok(())
    }

    /// Asks the daemon to end, and kills it if it does not within 5 s.
    pub(crate) async fn stop(&mut self) -> io::Result<ExitStatus> {
        if let Some(pid) = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.try_into().ok()?))
        {
            // An error means that it has just ended.
            let _ = kill_process(pid, Signal::TERM);
        }
        if let Ok(status) = tokio::time::timeout(Duration::from_secs(5), self.child.wait()).await {
            return status;
        }
        self.child.kill().await?;
        self.child.wait().await
    }
}
