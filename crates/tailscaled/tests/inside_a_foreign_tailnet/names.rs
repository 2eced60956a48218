//! `dns` and `exit-node`: both command lines, each with both daemons.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dns::{Kind, Query, Rcode};
use tailcfg::{DnsConfig, DnsRecord, Resolver};
use testkit::originals;

use super::common::*;
use super::questions::asked;

/// A server that knows an address of each name that does not begin with `none`; its port.
fn server() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    // It ends with the test's process.
    std::thread::spawn(move || {
        let mut question = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut question) {
            let query = Query::parse(&question[..len]).unwrap();
            let answer = match query.name.to_string().starts_with("none") {
                true => query.answer_nothing(Rcode::NX_DOMAIN, None),
                false if query.kind == Kind::A => {
                    let ips = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
                    query.answer_addresses(&ips)
                }
                false => query.answer_name(&"another.example".parse().unwrap()),
            };
            socket.send_to(&answer, from).unwrap();
        }
    });
    port
}

/// The answer to a question for `extra.example` at MagicDNS's own address, which without a device only a proxy reaches.
fn ask_by_proxy(port: u16) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    stream.write_all(&[5, 1, 0]).unwrap();
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).unwrap();
    stream
        .write_all(&[5, 1, 0, 1, 100, 100, 100, 100, 0, 53])
        .unwrap();
    let mut connected = [0; 10];
    stream.read_exact(&mut connected).unwrap();
    assert_eq!((chosen, connected[1]), ([5, 0], 0));
    let query = Query::new(5, &"extra.example".parse().unwrap(), Kind::A);
    let len = (query.bytes().len() as u16).to_be_bytes();
    stream.write_all(&[&len, query.bytes()].concat()).unwrap();
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut reply = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut reply).unwrap();
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_queries_are_answered_and_shown_as_by_the_originals() {
    let test = "dns_queries_are_answered_and_shown_as_by_the_originals";
    let Some(asked) = asked(test).await else {
        return;
    };
    let go_cli: PathBuf = originals::program(test, "TS_GO_TAILSCALE").unwrap();
    let our_cli = Path::new(env!("CARGO_BIN_EXE_tailscaled")).with_file_name("tailscale");
    let addr = format!("127.0.0.1:{}", server());
    let route = vec![Resolver {
        addr,
        ..Resolver::default()
    }];
    let names = [0, 1].map(|daemon| {
        let status = tokio::task::block_in_place(|| status(&go_cli, &asked.daemons[daemon]));
        status["Self"]["DNSName"].as_str().unwrap().to_owned()
    });
    let fqdn = names[0].clone();
    let (_, suffix) = fqdn.split_once('.').unwrap();
    let settings = DnsConfig {
        proxied: true,
        domains: vec![suffix.to_owned()],
        routes: BTreeMap::from([
            ("corp.example".to_owned(), Some(route)),
            ("empty.example".to_owned(), None),
        ]),
        extra_records: vec![DnsRecord {
            name: "extra.example".to_owned(),
            kind: String::new(),
            value: "192.0.2.77".to_owned(),
        }],
        ..DnsConfig::default()
    };
    asked.admin.set_dns(settings).await;
    let [a, b, c, d]: [&str; 4] = {
        let parts: Vec<&str> = asked.nodes["go"].1.split('.').collect();
        parts.try_into().unwrap()
    };
    let reverse = format!("{d}.{c}.{b}.{a}.in-addr.arpa");
    let go_name = format!("go.{suffix}");
    let none = format!("none.{suffix}");
    let questions: [&[&str]; 18] = [
        &["extra.example"],
        &[&fqdn, "A"],
        &[&go_name, "aaaa"],
        &[&go_name, "TXT"],
        &[&go_name, "SOA"],
        &[&none],
        &["www.empty.example"],
        &["secret.onion"],
        &["10-1-1-3-via-7.ts.net", "AAAA"],
        &["10-1-1-3-via-7.x.ts.net", "AAAA"],
        &["10-1-1-3-via-010", "ALL"],
        &["10-1-1-3-via-0x10", "A"],
        &[&reverse, "PTR"],
        &["100.100.100.100.in-addr.arpa", "PTR"],
        &["www.corp.example"],
        &["none.corp.example"],
        &["1.2.0.192.corp.example", "PTR"],
        &["a.example", "NOSUCH"],
    ];
    tokio::task::block_in_place(|| {
        // Both have heard of the settings.
        for daemon in &asked.daemons {
            let known = (0..300).any(|_| {
                std::thread::sleep(Duration::from_millis(50));
                let said = cli(&go_cli, daemon, &["dns", "query", "extra.example"]);
                said.stdout.contains("192.0.2.77")
            });
            assert!(known, "{}", daemon.log());
        }
        let mut differences = Vec::new();
        let status: [&[&str]; 7] = [
            &["dns", "status"],
            &["dns", "status", "--all"],
            &["dns", "status", "--json"],
            &["exit-node", "list"],
            &["exit-node", "list", "--filter=Nowhere"],
            &["exit-node", "list", "more"],
            &["exit-node", "suggest"],
        ];
        let queries = questions.iter().flat_map(|question| {
            let flags = [&[][..], &["--json"]];
            flags.map(|flags| [&["dns", "query"], flags, question].concat())
        });
        for args in queries.chain(status.map(<[&str]>::to_vec)) {
            let said = |program: &Path, daemon: usize| {
                let said = cli(program, &asked.daemons[daemon], &args);
                // Versions differ, and both command lines say so.
                let lines = said.stderr.lines();
                let errors: Vec<String> = lines
                    .filter(|line| !line.starts_with("Warning: client version"))
                    .map(str::to_owned)
                    .collect();
                // Each names itself.
                let stdout = match args[..] {
                    ["dns", "status", ..] => said.stdout.replace(&names[daemon], "own."),
                    _ => said.stdout,
                };
                (said.code, stdout, errors)
            };
            let original = said(&go_cli, 1);
            for (program, daemon) in [(&go_cli, 0), (&our_cli, 0), (&our_cli, 1)] {
                let ours = said(program, daemon);
                if ours != original {
                    differences.push(format!("{args:?}: {ours:#?}\nnot {original:#?}"));
                }
            }
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        // The original's answer ends before it is complete.
        let reply = ask_by_proxy(asked.daemons[0].proxy_port());
        assert!(reply.ends_with(&[192, 0, 2, 77]), "{reply:?}");
    });
}
