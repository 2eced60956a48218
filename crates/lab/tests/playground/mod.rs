//! `lab --tun` as root runs it, and a look into its nodes' networks.

#![allow(dead_code, reason = "each test has a use for other parts")]

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use os::netlink::{Netlink, Protocol};
use rustix::process::{Pid, geteuid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The lab's command; says why not if it cannot run here.
pub(crate) fn lab(test: &str, args: &[&str]) -> Option<Command> {
    let skip = |reason: &str| {
        testkit::originals::skip(test, reason);
        None
    };
    if !geteuid().is_root() {
        return skip("only root can make network namespaces");
    }
    let program = Path::new(env!("CARGO_BIN_EXE_lab"));
    for other in ["tailscaled", "tailscale"] {
        if !program.with_file_name(other).exists() {
            return skip(&format!(
                "`{other}` is not built; run cargo test for the whole workspace"
            ));
        }
    }
    let mut command = Command::new(program);
    command.arg("--tun").args(args);
    Some(command)
}

/// A lab that is waiting for Ctrl-C; killed if the test fails.
pub(crate) struct Playground(pub(crate) Child);

impl Playground {
    pub(crate) fn start(mut command: Command) -> Self {
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lab = Self(child);
        let lines = BufReader::new(lab.0.stdout.take().unwrap()).lines();
        let mut seen = Vec::new();
        for line in lines {
            let line = line.unwrap();
            if line.contains("Ctrl-C ends it") {
                return lab;
            }
            seen.push(line);
        }
        panic!("the lab ended: {seen:#?}");
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// The daemons' ids.
    pub(crate) fn daemons(&self) -> Vec<Pid> {
        let mut found = Vec::new();
        let tasks = format!("/proc/{}/task", self.0.id());
        for task in std::fs::read_dir(tasks).unwrap() {
            let children = std::fs::read_to_string(task.unwrap().path().join("children"));
            let children = children.unwrap_or_default();
            let ids = children.split_whitespace().map(|id| id.parse().unwrap());
            found.extend(ids.filter_map(Pid::from_raw));
        }
        found
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        // It has mostly ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // What has ended, but was not waited for, is a zombie.
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1500 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what}");
}

/// Runs `f` with the kernel's ear for a process's network.
pub(crate) fn with_netlink_of<R: Send>(pid: Pid, f: impl FnOnce(&mut Netlink) -> R + Send) -> R {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let file = File::open(format!("/proc/{}/ns/net", pid.as_raw_nonzero())).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            f(&mut Netlink::open(Protocol::Route).unwrap())
        });
        inside.join().unwrap()
    })
}

/// Runs `f` inside a process's network.
pub(crate) fn inside<R: Send>(pid: Pid, f: impl FnOnce() -> R + Send) -> R {
    with_netlink_of(pid, |_| f())
}

/// The IPv4 address that a node has in the tailnet.
pub(crate) fn tailnet_address(pid: Pid) -> IpAddr {
    with_netlink_of(pid, |kernel| {
        let device = kernel.link_named("tailscale0").unwrap().unwrap();
        let addresses = kernel.addresses().unwrap();
        let own = addresses
            .iter()
            .find(|address| address.link == device.index && address.net.addr().is_ipv4());
        own.unwrap().net.addr()
    })
}
