//! Servers in a scenario's networks. They end with the scenario's process.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::Result;
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
