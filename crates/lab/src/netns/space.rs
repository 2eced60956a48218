//! One namespace, or the two of a machine.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};

use anyhow::{Context as _, Result};
use os::netlink::route::set_link_up;
use os::netlink::{Netlink, Protocol};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::etc;
use super::system::{self, Running, System};

/// A network namespace of our own. It lives as long as this handle or a process in it.
#[derive(Debug)]
pub struct Netns {
    file: File,
    /// The mount namespace that belongs to it, if it is a machine's.
    mounts: Option<File>,
    /// The system on it, if it has one of its own.
    system: Option<Box<Running>>,
}

impl Netns {
    /// A new one, with nothing in it but a loopback interface, which is up.
    pub fn new() -> Result<Self> {
        let made = on_thread(|| -> io::Result<File> {
            sys::namespace::enter_new_network()?;
            let file = File::open("/proc/thread-self/ns/net")?;
            let mut netlink = Netlink::open(Protocol::Route)?;
            if let Some(loopback) = netlink.link_named("lo")? {
                netlink.request(set_link_up(loopback.index, true))?;
            }
            Ok(file)
        });
        let file = made.context("make a network namespace (this needs root)")?;
        Ok(Self {
            file,
            mounts: None,
            system: None,
        })
    }

    /// A new one that is a machine's: what is written to its `/etc` stays there, and the services of the machine around it
    /// cannot be asked.
    pub fn machine() -> Result<Self> {
        on_thread(|| {
            sys::namespace::enter_new_machine()
                .context("make a network and a mount namespace (this needs root)")?;
            etc::separate()?;
            let open = |name: &str| File::open(format!("/proc/thread-self/ns/{name}"));
            let space = Self {
                file: open("net")?,
                mounts: Some(open("mnt")?),
                system: None,
            };
            let mut netlink = Netlink::open(Protocol::Route)?;
            if let Some(loopback) = netlink.link_named("lo")? {
                netlink.request(set_link_up(loopback.index, true))?;
            }
            Ok(space)
        })
    }

    /// Starts another system on it. What runs inside from now on runs there; threads cannot be started from there.
    pub fn start_system(&mut self, system: &System) -> Result<()> {
        let running = self.run(|| system::start(system))??;
        self.system = Some(Box::new(running));
        Ok(())
    }

    /// Runs `f` on a thread inside. Sockets that it opens, threads and processes that it starts belong here.
    pub fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> Result<R> {
        on_thread(|| {
            move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                .context("enter a network namespace")?;
            if let Some(system) = &self.system {
                // It counts for the processes that are started from here.
                move_into_link_name_space(
                    system.processes.as_fd(),
                    Some(LinkNameSpaceType::ProcessID),
                )
                .context("enter a system")?;
            }
            let of_system = self.system.as_ref().map(|system| &system.mounts);
            if let Some(mounts) = of_system.or(self.mounts.as_ref()) {
                enter_mounts(mounts).context("enter a mount namespace")?;
            }
            Ok(f())
        })
    }

    /// An async runtime all of whose tasks are inside. What it is told to block on runs on the caller's thread and so belongs
    /// into [`block_on`](Self::block_on).
    pub fn runtime(&self) -> Result<tokio::runtime::Runtime> {
        self.run(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
        })?
        .context("start a runtime in a network namespace")
    }

    /// Runs something async inside, with a [`runtime`](Self::runtime) of this namespace.
    pub fn block_on<F>(&self, runtime: &tokio::runtime::Runtime, future: F) -> Result<F::Output>
    where
        F: Future + Send,
        F::Output: Send,
    {
        self.run(|| runtime.block_on(future))
    }

    /// Runs `f` with the kernel's ear for this namespace.
    pub fn netlink<R: Send>(
        &self,
        protocol: Protocol,
        f: impl FnOnce(&mut Netlink) -> io::Result<R> + Send,
    ) -> Result<R> {
        let done = self.run(|| f(&mut Netlink::open(protocol)?))?;
        done.context("change a network namespace")
    }

    /// Sets one of the namespace's kernel parameters, as `net/ipv4/ip_forward`.
    pub fn set_parameter(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{name}");
        let written = self.run(|| std::fs::write(&path, value))?;
        written.with_context(|| format!("write `{value}` to `{path}`"))
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Stays in the same directory, as the other namespace has it.
fn enter_mounts(mounts: &File) -> io::Result<()> {
    let here = std::env::current_dir()?;
    sys::namespace::own_working_directory()?;
    move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
    // Another system may not have it.
    rustix::process::chdir(&here)
        .or_else(|_| rustix::process::chdir("/"))
        .map_err(Into::into)
}

/// Runs `f` on a thread of its own: a thread that has changed its namespace cannot be used for anything else.
fn on_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| match scope.spawn(f).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
