//! One machine of a scenario, and the daemon on it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::netns::{Netns, Site};
use rustix::process::{Pid, Signal, kill_process};
use testkit::originals::{self, Daemon, TailscaledOptions};

use crate::tailnet::{Whose, program};

pub(super) const TUN: &str = "tailscale0";
/// What a scenario waits for has mostly happened long before.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Machine {
    pub(super) name: String,
    pub(super) site: Site,
    tailscaled: PathBuf,
    tailscale: PathBuf,
    daemon: Option<Daemon>,
}

impl Machine {
    pub(super) fn new(site: Site, whose: Whose, name: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            site,
            tailscaled: program(whose, "tailscaled", "TS_GO_TAILSCALED")?,
            tailscale: program(whose, "tailscale", "TS_GO_TAILSCALE")?,
            daemon: None,
        })
    }

    /// The programs that are run on it.
    pub(super) fn programs(&self) -> [&Path; 2] {
        [&self.tailscaled, &self.tailscale]
    }

    /// Starts the daemon, or starts it again with the same state.
    pub(super) fn start(&mut self) -> Result<()> {
        let Self {
            site,
            daemon,
            tailscaled,
            ..
        } = self;
        site.node().run(|| match daemon {
            Some(daemon) => daemon.start_again(),
            None => {
                let options = TailscaledOptions {
                    flags: vec![format!("--tun={TUN}")],
                    ..TailscaledOptions::default()
                };
                *daemon = Some(originals::daemon(tailscaled, &options));
            }
        })
    }

    fn daemon(&self) -> Result<&Daemon> {
        self.daemon.as_ref().context("no daemon was started")
    }

    /// The daemon's process.
    pub(super) fn pid(&self) -> Result<u32> {
        Ok(self.daemon()?.pid())
    }

    /// Kills the daemon: it has no time for anything.
    pub(super) fn kill(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.kill();
        }
    }

    /// Asks the daemon to end, and waits until it has.
    pub(super) fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.daemon()?.pid())?;
        let pid = Pid::from_raw(pid).context("no process")?;
        kill_process(pid, Signal::TERM)?;
        self.until("the daemon ends", |_| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            Ok(stat.map_or(true, |stat| stat.contains(") Z ")))
        })?;
        self.kill();
        Ok(())
    }

    /// Starts another daemon with another socket and state, which must end by itself; what it says.
    pub(super) fn second_daemon(&self) -> Result<String> {
        let program = self.tailscaled.display();
        let socket = self.daemon()?.socket().with_extension("second");
        self.sh(&format!(
            "TS_NO_LOGS_NO_SUPPORT=true timeout 10 {program} --tun={TUN} --state=mem: --socket={} 2>&1; \
             code=$?; [ $code != 0 ] && [ $code != 124 ]",
            socket.display()
        ))
    }

    /// `tailscaled --cleanup`.
    pub(super) fn clean_up(&self) -> Result<()> {
        self.clean_up_with(&self.tailscaled)
    }

    /// The same by another program.
    pub(super) fn clean_up_with(&self, tailscaled: &Path) -> Result<()> {
        self.sh(&format!("{} --cleanup --tun={TUN}", tailscaled.display()))?;
        Ok(())
    }

    pub(super) fn cli(&self, args: &[&str]) -> Result<String> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the command line is how a user would do it"
        )]
        let mut command = std::process::Command::new(&self.tailscale);
        command
            .arg("--socket")
            .arg(self.daemon()?.socket())
            .args(args);
        let output = self.site.node().run(|| command.output())??;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(
            output.status.success(),
            "tailscale {}: {}{}",
            args.first().unwrap_or(&""),
            said(&output.stdout),
            said(&output.stderr)
        );
        Ok(said(&output.stdout))
    }

    /// The same as a line of shell.
    pub(super) fn command_line(&self, args: &[&str]) -> Result<String> {
        let (program, socket) = (self.tailscale.display(), self.daemon()?.socket());
        Ok(format!(
            "{program} --socket {} {}",
            socket.display(),
            args.join(" ")
        ))
    }

    /// Its IPv4 address in the tailnet.
    pub(super) fn address(&self) -> Result<IpAddr> {
        Ok(self.cli(&["ip", "-4"])?.trim().parse()?)
    }

    /// Its IPv6 address in the tailnet.
    pub(super) fn address_v6(&self) -> Result<IpAddr> {
        Ok(self.cli(&["ip", "-6"])?.trim().parse()?)
    }

    /// Runs a line of shell on the machine; what it printed.
    pub(super) fn sh(&self, line: &str) -> Result<String> {
        sh(self.site.node(), line).with_context(|| format!("on {}", self.name))
    }

    /// Takes programs away from the machine, and from it alone.
    pub(super) fn take_away(&self, programs: &[&str]) -> Result<()> {
        const LAYER: &str = "/mnt";
        for place in ["/usr/sbin", "/usr/bin"] {
            self.sh(&format!(
                "mount -t tmpfs lab {LAYER} && mkdir {LAYER}/upper {LAYER}/work && \
                 mount -t overlay lab -o lowerdir={place},upperdir={LAYER}/upper,workdir={LAYER}/work {place} && \
                 umount -l {LAYER} && cd {place} && rm -f {}",
                programs.join(" ")
            ))?;
        }
        for program in programs {
            self.sh(&format!("! command -v {program}"))?;
        }
        Ok(())
    }

    pub(super) fn resolv_conf(&self) -> Result<String> {
        self.sh("cat /etc/resolv.conf")
    }

    /// Waits until something is true; how long that took.
    pub(super) fn until(
        &self,
        what: &str,
        mut is_true: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<Duration> {
        let start = rt::now();
        loop {
            if is_true(self)? {
                return Ok(rt::now().since(start));
            }
            if rt::now().since(start) > PATIENCE {
                bail!("it does not come true that {what}");
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until the shell says yes to a line.
    pub(super) fn until_sh(&self, line: &str) -> Result<Duration> {
        self.until(line, |machine| Ok(machine.sh(line).is_ok()))
    }

    /// Waits until packets get to another node, or an address behind one.
    pub(super) fn until_pings(&self, address: IpAddr) -> Result<Duration> {
        self.until_sh(&format!("ping -c1 -W1 {address}"))
    }

    /// Everything about the machine that a daemon might leave changed.
    pub(super) fn traces(&self) -> Result<String> {
        let mut traces = String::new();
        for line in [
            "ip -o addr show scope global",
            "ip -4 rule",
            "ip -6 rule",
            "ip -4 route show table all",
            "ip -6 route show table all",
            "nft -s list ruleset",
            "ls -la --time-style=full-iso /etc/resolv* | sed 's/ 2[0-9-]* [0-9:.]* [+0-9]* / /'",
            "cat /etc/resolv.conf",
        ] {
            traces += &format!("# {line}\n{}", self.sh(line)?);
        }
        Ok(traces)
    }
}

/// Fails with the first line in which two states differ.
pub(super) fn same(before: &str, after: &str) -> Result<()> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let says = |line: &&&str| !line.trim().is_empty();
    let extra = new.iter().filter(says).find(|line| !old.contains(line));
    let lost = old.iter().filter(says).find(|line| !new.contains(line));
    match (extra, lost) {
        _ if before == after => Ok(()),
        (Some(line), _) => bail!("left behind: {}", line.trim()),
        (None, Some(line)) => bail!("lost: {}", line.trim()),
        (None, None) => bail!("in another order than before"),
    }
}

/// Runs a line of shell in a namespace; what it printed.
pub(super) fn sh(space: &Netns, line: &str) -> Result<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "what administrators type is what is tested"
    )]
    let mut command = std::process::Command::new("sh");
    command.args(["-c", line]);
    let output = space.run(|| command.output())??;
    ensure!(
        output.status.success(),
        "`{line}`: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
