//! Servers that say nothing, or nonsense, or more than anybody asked for: each question has an answer within five seconds, and the daemon
//! goes on.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::time::Duration;

use super::Verdict;
use crate::host::stage::Stage;
use anyhow::{Result, ensure};
use dns::{Kind, Name, Query};
use lab::netns::{Netns, World};

/// The clients' own limit.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a server does with a question, by the first label of its name.
fn answer(query: &Query, kind: &str) -> Option<Vec<u8>> {
    let good = query.answer_addresses(&[[192, 0, 2, 33].into()]);
    let mut bad = good.clone();
    match kind {
        "silence" => return None,
        "garbage" => bad = vec![0xff; 300],
        "empty" => bad.clear(),
        "short" => bad.truncate(7),
        "wrongid" => bad[0] ^= 0x55,
        "otherquestion" => {
            let other = Query::new(
                u16::from_be_bytes([good[0], good[1]]),
                &"x.example".parse::<Name>().ok()?,
                Kind::A,
            );
            bad = other.answer_addresses(&[[192, 0, 2, 66].into()]);
        }
        // A name that refers to itself.
        "circle" => {
            bad.truncate(12);
            bad.extend_from_slice(&[0xc0, 0x0c, 0, 1, 0, 1]);
        }
        // Far more records are promised than there are.
        "promises" => bad[6..8].copy_from_slice(&[0xff, 0xff]),
        "truncated" | "huge" => bad[2] |= 2,
        _ => {}
    }
    Some(bad)
}

/// 64 KB of addresses for one name.
fn huge(query: &Query) -> Vec<u8> {
    let many: Vec<IpAddr> = (0..4000_u32)
        .map(|n| IpAddr::from(n.to_be_bytes()))
        .collect();
    query.answer_addresses(&many)
}

fn serve(space: &Netns, at: IpAddr) -> Result<()> {
    let (socket, listener) = space.run(|| -> Result<(UdpSocket, TcpListener)> {
        Ok((UdpSocket::bind((at, 53))?, TcpListener::bind((at, 53))?))
    })??;
    let kind = |query: &Query| {
        query
            .name
            .labels()
            .next()
            .map(|label| String::from_utf8_lossy(label).into_owned())
    };
    std::thread::spawn(move || {
        let mut question = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut question) {
            let Ok(query) = Query::parse(&question[..len]) else {
                continue;
            };
            if let Some(reply) = answer(&query, &kind(&query).unwrap_or_default()) {
                let _ = socket.send_to(&reply, from);
            }
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut question = [0; 4096];
            let Ok(len) = stream.read(&mut question) else {
                continue;
            };
            let Some(Ok(query)) = question.get(2..len).map(Query::parse) else {
                continue;
            };
            let kind = kind(&query).unwrap_or_default();
            let reply = match &*kind {
                "huge" => huge(&query),
                "silence" => {
                    std::thread::spawn(move || {
                        std::thread::sleep(Duration::from_secs(20));
                        drop(stream);
                    });
                    continue;
                }
                kind => answer(&query, kind).unwrap_or_default(),
            };
            let len = u16::try_from(reply.len()).unwrap_or(u16::MAX);
            let _ = stream.write_all(&[&len.to_be_bytes()[..], &reply].concat());
        }
    });
    Ok(())
}

pub(super) fn play(stage: &mut Stage) -> Result<Verdict> {
    serve(stage.tailnet.world.internet(), World::SERVERS[0].into())?;
    let client = stage.node("client")?;
    client.until_asks_us()?;
    let mut slowest = Duration::ZERO;
    for kind in [
        "good",
        "silence",
        "garbage",
        "empty",
        "short",
        "wrongid",
        "otherquestion",
        "circle",
        "promises",
        "truncated",
        "huge",
    ] {
        let name: Name = format!("{kind}.example").parse()?;
        let query = Query::new(7, &name, Kind::A);
        let (took, len) = client.site.node().run(|| -> Result<(Duration, usize)> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect("100.100.100.100:53")?;
            socket.set_read_timeout(Some(PATIENCE))?;
            let start = rt::now();
            socket.send(query.bytes())?;
            let mut reply = vec![0; 65_535];
            let len = socket.recv(&mut reply).unwrap_or_default();
            Ok((rt::now().since(start), len))
        })??;
        ensure!(
            len >= 12,
            "{kind}: no answer within {} ms",
            took.as_millis()
        );
        // Nobody is sent more than he said that he takes: others could have it sent to someone else.
        ensure!(
            len <= 512,
            "{kind}: {len} bytes for a question without EDNS"
        );
        slowest = slowest.max(took);
    }
    client.until_finds("good.example", [192, 0, 2, 33].into())?;
    Ok(Verdict::Pass(format!(
        "the slowest after {} ms",
        slowest.as_millis()
    )))
}
