//! What programs on a node's machine get from MagicDNS.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]
#![expect(clippy::disallowed_methods, reason = "running the lab is the test")]

mod playground;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output};
use std::time::Duration;

use dns::{Kind, Name, Query, Rcode, Response};
use playground::{Playground, inside, lab, tailnet_address, wait_until};
use rustix::process::Pid;

const V4: &str = "100.100.100.100:53";
const V6: &str = "[fd7a:115c:a1e0::53]:53";
/// Addresses in an answer that no datagram of a plain client holds.
const MANY: u16 = 60;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Asks by UDP, from a node's machine; `None` if nothing comes within the time that clients wait.
fn ask(from: Pid, server: &str, text: &str, kind: Kind) -> Option<(Response, Vec<u8>)> {
    let server: SocketAddr = server.parse().unwrap();
    let query = Query::new(0x4242, &name(text), kind);
    inside(from, || {
        let any = if server.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        socket.send_to(query.bytes(), server).unwrap();
        let mut answer = [0; 4096];
        let (len, by) = socket.recv_from(&mut answer).ok()?;
        assert_eq!(by, server);
        let response = Response::parse(&answer[..len], &query, 0x4242);
        Some((response.unwrap(), answer[..len].to_vec()))
    })
}

fn framed(stream: &mut TcpStream, message: &[u8]) {
    let len = (message.len() as u16).to_be_bytes();
    stream.write_all(&[&len, message].concat()).unwrap();
}

fn read_framed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

/// What a server of the tailnet answers: nothing by UDP where the name begins with `mute`, many addresses where it begins with
/// `many`, else one.
fn answer(question: &[u8], by_udp: bool) -> Option<Vec<u8>> {
    let query = Query::parse(question).unwrap();
    let text = query.name.to_string();
    let ips = |count: u16| -> Vec<IpAddr> {
        let ip = |at| [192, 0, 2, at as u8].into();
        (1..=count).map(ip).collect()
    };
    match &text[..4] {
        "mute" if by_udp => None,
        "many" if by_udp => {
            let mut short = query.answer_addresses(&ips(1));
            short[2] |= 2;
            Some(short)
        }
        "many" => Some(query.answer_addresses(&ips(MANY))),
        "fail" => Some(query.answer_nothing(Rcode::SERV_FAIL, None)),
        _ => Some(query.answer_addresses(&ips(1))),
    }
}

fn serve(on: Pid, address: IpAddr) {
    let (udp, tcp) = inside(on, || {
        let udp = UdpSocket::bind((address, 53)).unwrap();
        (udp, TcpListener::bind((address, 53)).unwrap())
    });
    // They end with the test's process.
    std::thread::spawn(move || {
        let mut question = [0; 4096];
        while let Ok((len, from)) = udp.recv_from(&mut question) {
            if let Some(answer) = answer(&question[..len], true) {
                udp.send_to(&answer, from).unwrap();
            }
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            while let Some(question) = read_framed(&mut stream) {
                framed(&mut stream, &answer(&question, false).unwrap());
            }
        }
    });
}

fn admin(lab: &Playground, args: &[&str]) -> Output {
    let directory = std::env::temp_dir().join(format!("tailnet-lab-{}", lab.0.id()));
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["admin", "--socket"])
        .arg(directory)
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

#[test]
fn names_are_answered_and_the_rest_is_asked_of_the_tailnets_servers() {
    let test = "names_are_answered_and_the_rest_is_asked_of_the_tailnets_servers";
    let Some(command) = lab(test, &["--nat", "none"]) else {
        return;
    };
    let lab = Playground::start(command);
    let daemons = lab.daemons();
    let (client, server) = (daemons[0], tailnet_address(daemons[1]));
    serve(daemons[1], server);
    let listed = admin(&lab, &["list", "--json"]);
    let nodes: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let is_server = |node: &&serde_json::Value| node.to_string().contains(&server.to_string());
    let node = nodes.as_array().unwrap().iter().find(is_server).unwrap();
    let fqdn = node["name"].as_str().unwrap().to_owned();
    let (_, suffix) = fqdn.split_once('.').unwrap();

    let settings = serde_json::json!({
        "Proxied": true,
        "Domains": [suffix],
        "Routes": {"corp.example": [{"Addr": server.to_string()}]},
        "ExtraRecords": [{"Name": "extra.example", "Value": "192.0.2.77"}],
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), settings.to_string()).unwrap();
    admin(&lab, &["dns", file.path().to_str().unwrap()]);
    let rcode = |text: &str, kind: Kind| ask(client, V4, text, kind).map(|(said, _)| said.rcode);
    wait_until("the extra record is not known", || {
        rcode("extra.example", Kind::A) == Some(Rcode::NO_ERROR)
    });

    // Both families, both ways.
    let IpAddr::V4(v4) = server else {
        panic!("{server}");
    };
    for resolver in [V4, V6] {
        let (said, bytes) = ask(client, resolver, &fqdn, Kind::A).unwrap();
        assert_eq!(said.rcode, Rcode::NO_ERROR);
        assert!(bytes.ends_with(&v4.octets()), "{bytes:?}");
        let mut stream = inside(client, || TcpStream::connect(resolver).unwrap());
        let query = Query::new(7, &name(&fqdn), Kind::A);
        framed(&mut stream, query.bytes());
        let answer = read_framed(&mut stream).unwrap();
        assert!(answer.ends_with(&v4.octets()), "{answer:?}");
    }
    assert_eq!(
        rcode(&format!("none.{suffix}"), Kind::A),
        Some(Rcode::NX_DOMAIN)
    );
    let [a, b, c, d] = v4.octets();
    let reverse = format!("{d}.{c}.{b}.{a}.in-addr.arpa");
    let (_, bytes) = ask(client, V4, &reverse, Kind::PTR).unwrap();
    let mut wire = Vec::new();
    name(&fqdn).write(&mut wire);
    assert!(bytes.ends_with(&wire), "{bytes:?}");

    // By the tailnet's server: answered at once, after its silence by TCP, and not at all.
    let (said, bytes) = ask(client, V4, "www.corp.example", Kind::A).unwrap();
    assert_eq!((said.rcode, said.truncated), (Rcode::NO_ERROR, false));
    assert!(bytes.ends_with(&[192, 0, 2, 1]));
    assert_eq!(rcode("mute.corp.example", Kind::A), Some(Rcode::NO_ERROR));
    assert_eq!(rcode("fail.corp.example", Kind::A), Some(Rcode::SERV_FAIL));
    assert_eq!(rcode("nobody.example", Kind::A), Some(Rcode::SERV_FAIL));
    // What is much comes by TCP, and who asks by UDP hears of that.
    let (said, _) = ask(client, V4, "many.corp.example", Kind::A).unwrap();
    assert!(said.truncated);
    let mut stream = inside(client, || TcpStream::connect(V4).unwrap());
    let query = Query::new(9, &name("many.corp.example"), Kind::A);
    framed(&mut stream, query.bytes());
    let answer = read_framed(&mut stream).unwrap();
    assert_eq!(answer.len(), query.bytes().len() + usize::from(MANY) * 16);
}
