//! `lab --tun` as root runs it, and what happens to nodes whose devices and rules are tampered with.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]
#![expect(clippy::disallowed_methods, reason = "running the lab is the test")]

mod playground;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use os::netlink::route::{remove_link, set_link_up};
use os::netlink::{Netlink, Protocol};
use playground::{Playground, inside, is_alive, lab, tailnet_address, wait_until, with_netlink_of};
use rustix::process::{Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

fn round(test: &str, nat: &str, direct: bool) {
    let Some(mut command) = lab(test, &["--json", "--nat", nat]) else {
        return;
    };
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let pairs = report["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 2);
    for pair in pairs {
        assert_eq!(pair["direct"], direct, "{pair}");
        assert!(pair["mbit_per_s"].as_f64().unwrap() > 0.0, "{pair}");
    }
}

#[test]
fn easy_nats_are_direct() {
    round("easy_nats_are_direct", "easy", true);
}

#[test]
fn a_hard_and_an_easy_nat_are_relayed() {
    round("a_hard_and_an_easy_nat_are_relayed", "hard,easy", false);
}

#[test]
fn kinds_must_fit_the_nodes() {
    let Some(mut command) = lab(
        "kinds_must_fit_the_nodes",
        &["--once", "--nat", "easy,easy,hard"],
    ) else {
        return;
    };
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("--nat has 3 kinds for 2 nodes"), "{errors}");
}

fn has_rule(kernel: &mut Netlink) -> bool {
    let rules = kernel.rules().unwrap();
    rules.iter().any(|rule| !rule.v6 && rule.priority == 5270)
}

#[test]
fn rules_come_back_a_lost_device_ends_the_daemon_and_nothing_is_left() {
    let test = "rules_come_back_a_lost_device_ends_the_daemon_and_nothing_is_left";
    let Some(command) = lab(test, &["--nat", "none"]) else {
        return;
    };
    let mut lab = Playground::start(command);
    let daemons = lab.daemons();
    assert_eq!(daemons.len(), 2);

    with_netlink_of(daemons[0], |kernel| {
        for rule in kernel.rules().unwrap() {
            if rule.priority == 5270 {
                kernel.request(rule.remove()).unwrap();
            }
        }
    });
    wait_until("the rule does not come back", || {
        with_netlink_of(daemons[0], has_rule)
    });

    // The namespace outlives its daemon.
    let namespace = File::open(format!("/proc/{}/ns/net", daemons[1].as_raw_nonzero())).unwrap();
    with_netlink_of(daemons[1], |kernel| {
        let device = kernel.link_named("tailscale0").unwrap().unwrap();
        kernel.request(remove_link(device.index)).unwrap();
    });
    wait_until("a daemon goes on without its device", || {
        !is_alive(daemons[1])
    });
    let left = std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let mut kernel = Netlink::open(Protocol::Route).unwrap();
            let has_table = kernel
                .routes()
                .unwrap()
                .iter()
                .any(|route| route.table == 52);
            (has_rule(&mut kernel), has_table)
        });
        inside.join().unwrap()
    });
    assert_eq!(left, (false, false), "rules and routes go with the daemon");

    kill_process(lab.pid(), Signal::INT).unwrap();
    let status = lab.0.wait().unwrap();
    assert!(status.success(), "{status}");
    assert!(daemons.iter().all(|daemon| !is_alive(*daemon)));
    let directory = std::env::temp_dir().join(format!("tailnet-lab-{}", lab.0.id()));
    assert!(!directory.exists());
}

#[test]
fn a_device_that_goes_down_under_load_carries_again_when_it_is_up() {
    let test = "a_device_that_goes_down_under_load_carries_again_when_it_is_up";
    let Some(mut command) = lab(test, &["--nat", "none"]) else {
        return;
    };
    // With queues and sockets for more cores than there may be.
    command.env("TS_WORKERS", "4");
    let lab = Playground::start(command);
    let daemons = lab.daemons();
    let target = tailnet_address(daemons[1]);
    let inbound = inside(daemons[1], || UdpSocket::bind((target, 0)).unwrap());
    inbound.set_nonblocking(true).unwrap();
    let to = SocketAddr::new(target, inbound.local_addr().unwrap().port());
    let outbound = inside(daemons[0], || UdpSocket::bind("0.0.0.0:0").unwrap());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // There is no route while the device is down.
                for _ in 0..50 {
                    let _ = outbound.send_to(&[7; 1200], to);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let arrives = || {
            let mut buffer = [0; 1500];
            // What has arrived before does not count.
            while inbound.recv(&mut buffer).is_ok() {}
            wait_until("nothing arrives any more", || {
                inbound.recv(&mut buffer).is_ok()
            });
        };
        arrives();
        for round in 0..6 {
            let victim = daemons[round % 2];
            for up in [false, true] {
                with_netlink_of(victim, |kernel| {
                    let device = kernel.link_named("tailscale0").unwrap().unwrap();
                    kernel.request(set_link_up(device.index, up)).unwrap();
                });
                std::thread::sleep(Duration::from_millis(100));
            }
            arrives();
        }
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap();
    });
    assert!(daemons.iter().all(|daemon| is_alive(*daemon)));
    for daemon in daemons {
        let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.as_raw_nonzero())).unwrap();
        let names =
            threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")));
        let names: Vec<String> = names.map(Result::unwrap).collect();
        let count = |name: &str| names.iter().filter(|other| other.trim() == name).count();
        let counts = ["tun worker", "udp worker", "crypto worker"].map(count);
        assert_eq!(counts, [4, 8, 4], "{names:?}");
    }
}

/// Many connections at once through many queues: each is whole.
#[test]
fn many_queues_carry_many_connections() {
    let Some(mut command) = lab("many_queues_carry_many_connections", &["--nat", "none"]) else {
        return;
    };
    command.env("TS_WORKERS", "4");
    let lab = Playground::start(command);
    let daemons = lab.daemons();
    let target = tailnet_address(daemons[1]);
    let listener = inside(daemons[1], || TcpListener::bind((target, 0)).unwrap());
    let to = listener.local_addr().unwrap();
    let block: Vec<u8> = (0..1_000_000u32)
        .map(|at| (at * 7 + at / 255) as u8)
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            let mut out = inside(daemons[0], || TcpStream::connect(to).unwrap());
            let (mut inn, _) = listener.accept().unwrap();
            let block = &block;
            scope.spawn(move || {
                out.write_all(block).unwrap();
                out.shutdown(Shutdown::Write).unwrap();
                let mut back = Vec::new();
                out.read_to_end(&mut back).unwrap();
                assert!(back == block[..1000]);
            });
            scope.spawn(move || {
                let mut all = Vec::new();
                inn.read_to_end(&mut all).unwrap();
                assert!(all == *block);
                inn.write_all(&all[..1000]).unwrap();
            });
        }
    });
}

#[test]
fn a_killed_lab_takes_its_nodes_along() {
    let Some(command) = lab("a_killed_lab_takes_its_nodes_along", &["--nat", "none"]) else {
        return;
    };
    let lab = Playground::start(command);
    let (pid, daemons) = (lab.0.id(), lab.daemons());
    assert_eq!(daemons.len(), 2);
    drop(lab);
    wait_until("a daemon outlives its lab", || {
        daemons.iter().all(|daemon| !is_alive(*daemon))
    });
    // A killed process cannot remove its directory.
    let directory = std::env::temp_dir().join(format!("tailnet-lab-{pid}"));
    std::fs::remove_dir_all(directory).unwrap();
}
