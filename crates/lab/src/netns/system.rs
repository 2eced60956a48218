//! A machine with another system on it: a directory tree in which that system's own first process runs.
//!
//! The tree stays as it is: a file system in memory lies over it. All ends with the handle.
#![expect(
    clippy::disallowed_methods,
    reason = "another system is started by starting a program"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// Which system.
#[derive(Debug, Clone)]
pub struct System {
    /// Directory trees; what is in an earlier one hides what is in a later one.
    pub layers: Vec<PathBuf>,
    /// Its first process.
    pub init: Init,
    /// Directories of the machine around it that it can read at the same places.
    pub shared: Vec<PathBuf>,
}

/// The first process of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// The real one, which starts services.
    Systemd,
    /// One that does nothing.
    Sleep,
}

impl Init {
    fn program(self) -> &'static str {
        match self {
            Self::Systemd => "/usr/lib/systemd/systemd",
            Self::Sleep => "/usr/bin/sleep",
        }
    }

    /// What the kernel calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Sleep => "sleep",
        }
    }
}

const NAMESPACES: [&str; 7] = [
    "--mount",
    "--pid",
    "--uts",
    "--ipc",
    "--cgroup",
    "--fork",
    "--kill-child",
];

/// Run as the first process of new namespaces: makes the tree its root, and becomes its first process. Arguments: layers as overlayfs names
/// them, the program, its arguments up to `--`, and the shared directories.
const SCRIPT: &str = r#"
set -e
layers=$1; shift
init=
while [ "$1" != -- ]; do init="$init $1"; shift; done
shift
mount --make-rprivate /
mount -t tmpfs lab /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir="$layers",upperdir=/mnt/upper,workdir=/mnt/work root /mnt/root
cd /mnt/root
mkdir -p proc sys dev run tmp
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs dev dev
for device in null zero full random urandom tty net/tun; do
  mkdir -p "dev/$(dirname $device)"
  touch dev/$device
  mount --bind /dev/$device dev/$device
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs run run
mount -t tmpfs tmp tmp
for directory; do
  mkdir -p "./$directory"
  mount --bind "$directory" "./$directory"
  mount -o remount,bind,ro "./$directory"
done
mkdir -p mnt/old
pivot_root . mnt/old
umount -l /mnt/old
exec env -i container=lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin $init
"#;

const POLLS: u32 = 500;
const PAUSE: Duration = Duration::from_millis(20);

/// The processes of a running system.
#[derive(Debug)]
pub(super) struct Running {
    starter: Child,
    pub(super) mounts: File,
    pub(super) processes: File,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its only child goes with it, and with that all the others.
        let _ = self.starter.kill();
        let _ = self.starter.wait();
    }
}

/// Starts a system in the calling thread's network namespace.
pub(super) fn start(system: &System) -> Result<Running> {
    let layers: Vec<String> = system
        .layers
        .iter()
        .map(|layer| layer.display().to_string())
        .collect();
    let mut command = Command::new("unshare");
    command
        .args(NAMESPACES)
        .args(["sh", "-c", SCRIPT, "boot", &layers.join(":")])
        .arg(system.init.program());
    if system.init == Init::Sleep {
        command.arg("infinity");
    }
    command
        .arg("--")
        .args(&system.shared)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let starter = command.spawn().context("start `unshare`")?;
    let namespace = |first: u32, name: &str| File::open(format!("/proc/{first}/ns/{name}"));
    let id = starter.id();
    // It ends with this, whatever goes wrong from here on.
    let mut running = Running {
        starter,
        mounts: namespace(id, "mnt")?,
        processes: namespace(id, "pid")?,
    };
    let first = wait_for(&mut running.starter, system.init)?;
    running.mounts = namespace(first, "mnt")?;
    running.processes = namespace(first, "pid")?;
    Ok(running)
}

/// The first process, once it is what it is to be.
fn wait_for(starter: &mut Child, init: Init) -> Result<u32> {
    let id = starter.id();
    let children = format!("/proc/{id}/task/{id}/children");
    for _ in 0..POLLS {
        let child = fs::read_to_string(&children).unwrap_or_default();
        if let Ok(first) = child.trim().parse()
            && is_called(first, init.name())
        {
            return Ok(first);
        }
        if let Some(status) = starter.try_wait()? {
            bail!("a system could not be started: {status}");
        }
        std::thread::sleep(PAUSE);
    }
    bail!("a system does not start")
}

fn is_called(process: u32, name: &str) -> bool {
    let path = Path::new("/proc").join(process.to_string()).join("comm");
    fs::read_to_string(path).is_ok_and(|found| found.trim() == name)
}
