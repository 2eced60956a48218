//! Servers in a scenario's networks. They end with the scenario's process.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use dns::Query;
use lab::netns::Netns;

/// Answers every question for a name with one address.
pub(super) fn dns(space: &Netns, at: IpAddr, answer: IpAddr) -> Result<()> {
    let socket = space.run(|| UdpSocket::bind((at, 53)))??;
    std::thread::spawn(move || {
        let mut question = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut question) {
            if let Ok(query) = Query::parse(&question[..len]) {
                // Who asked may be gone.
                let _ = socket.send_to(&query.answer_addresses(&[answer]), from);
            }
        }
    });
    Ok(())
}

/// Tells everybody who connects from which address he comes.
pub(super) fn mirror(space: &Netns, at: IpAddr) -> Result<SocketAddr> {
    let listener = space.run(|| TcpListener::bind((at, 0)))??;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = listener.accept() {
            let _ = write!(stream, "{}", from.ip());
        }
    });
    Ok(address)
}

/// As whom a [`mirror`] sees who connects from `space`.
pub(super) fn seen_as(space: &Netns, mirror: SocketAddr) -> Result<IpAddr> {
    let text = space.run(|| -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&mirror, Duration::from_secs(3))?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })??;
    Ok(text.parse()?)
}

/// Sends a request from `space`, and reads all of the answer.
pub(super) fn ask(space: &Netns, at: SocketAddr, request: &str) -> Result<String> {
    let answer = space.run(|| -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(3))?;
        stream.set_read_timeout(Some(Duration::from_secs(8)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    })??;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// What is sent in one go to see whether it passes.
pub(super) const MEBIBYTE: usize = 1 << 20;
/// Of a datagram: more than a tunnel carries where the network around it carries little, and less than it does everywhere else.
const DATAGRAM: usize = 1200;
const TRIES: usize = 30;

/// Counts what comes by TCP, and echoes what comes by UDP, on the same port.
pub(super) fn sink(space: &Netns, at: IpAddr) -> Result<SocketAddr> {
    let (listener, socket) = space.run(|| -> Result<(TcpListener, UdpSocket)> {
        let listener = TcpListener::bind((at, 0))?;
        let socket = UdpSocket::bind(listener.local_addr()?)?;
        Ok((listener, socket))
    })??;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                let mut all = Vec::new();
                if stream.read_to_end(&mut all).is_ok() {
                    let _ = write!(stream, "{}", all.len());
                }
            });
        }
    });
    std::thread::spawn(move || {
        let mut datagram = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(&datagram[..len], from);
        }
    });
    Ok(address)
}

/// Sends a mebibyte to a [`sink`] by TCP.
pub(super) fn pour(space: &Netns, to: SocketAddr) -> Result<()> {
    pour_within(space, to, 10)
}

/// The same with so many seconds for each step.
pub(super) fn pour_within(space: &Netns, to: SocketAddr, seconds: u64) -> Result<()> {
    let patience = Duration::from_secs(seconds);
    let counted = space.run(|| -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.write_all(&vec![7; MEBIBYTE])?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut counted = String::new();
        stream.read_to_string(&mut counted)?;
        Ok(counted)
    })??;
    ensure!(counted == MEBIBYTE.to_string(), "{counted} bytes arrived");
    Ok(())
}

/// Sends a mebibyte to a [`sink`] by UDP, one datagram after the other, and each until it comes back; how many were lost.
pub(super) fn drip(space: &Netns, to: SocketAddr) -> Result<usize> {
    space.run(|| -> Result<usize> {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        let (mut lost, mut datagram) = (0, [0; DATAGRAM]);
        for number in 0..MEBIBYTE.div_ceil(DATAGRAM) {
            datagram[..8].copy_from_slice(&number.to_be_bytes());
            let mut back = [0; 2048];
            let is_back = (0..TRIES).any(|_| {
                // A packet that was too big is told of at the next call.
                let sent = socket.send(&datagram).is_ok();
                let back = sent
                    && socket
                        .recv(&mut back)
                        .is_ok_and(|len| back[..len] == datagram);
                lost += usize::from(!back);
                back
            });
            ensure!(is_back, "datagram {number} never came back");
        }
        Ok(lost)
    })?
}
