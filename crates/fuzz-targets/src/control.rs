//! What a control server may send, and what a client may send to ours.

use ::control::{ServerUrl, decode_message, parse_request};
use host::Wall;
use keys::MachinePrivate;
use netmap::MapSession;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tailcfg::{
    EarlyNoise, Hostinfo, MapRequest, MapResponse, Node, OverTlsPublicKeyResponse, PingRequest,
    RegisterRequest, RegisterResponse, WhoIsResponse,
};
use ts2021::{EarlyReader, Initiator, MapFrames, Responder, Session};

/// Initiations and answers: nothing that was not made with the right keys is accepted.
pub(crate) fn ts2021_handshake(data: &[u8]) {
    let mut rng = crate::rng();
    let server = MachinePrivate::generate(&mut rng);
    let client = MachinePrivate::generate(&mut rng);
    assert!(Responder::open(&server, data).is_err());
    let (initiator, initiation) =
        Initiator::new(&client, &server.public(), 100, &mut rng).expect("good keys");
    if let Ok(Some(len)) = Initiator::answer_len(data) {
        let answer = data.get(..len).expect("it said that they are there");
        assert!(initiator.finish(answer).is_err());
    }
    // The first bytes over a true initiation.
    let mut damaged = initiation;
    for (byte, bits) in damaged.iter_mut().zip(data) {
        *byte ^= bits;
    }
    assert_eq!(
        Responder::open(&server, &damaged).is_ok(),
        damaged == initiation
    );
}

fn sessions() -> (Session, Session) {
    let mut rng = crate::rng();
    let server = MachinePrivate::generate(&mut rng);
    let client = MachinePrivate::generate(&mut rng);
    let (initiator, initiation) =
        Initiator::new(&client, &server.public(), 100, &mut rng).expect("good keys");
    let responder = Responder::open(&server, &initiation).expect("a true initiation");
    let (server, response) = responder.respond(&mut rng).expect("good keys");
    let client = initiator.finish(&response).expect("a true response");
    (client, server)
}

/// Records in pieces: what is sealed opens, what follows that is not sealed does not.
pub(crate) fn ts2021_records(data: &[u8]) {
    let (mut client, mut server) = sessions();
    let mut sealed = Vec::new();
    client.sealer.seal(data, &mut sealed).expect("sealed");
    let size = data.first().map_or(1, |b| usize::from(*b).max(1));
    let mut plain = Vec::new();
    for piece in sealed.chunks(size) {
        server
            .opener
            .handle_input(piece, &mut plain)
            .expect("true records open");
    }
    assert_eq!(plain, data);
    assert!(server.opener.is_at_boundary());

    plain.clear();
    for piece in crate::pieces(data) {
        if client.opener.handle_input(piece, &mut plain).is_err() {
            break;
        }
    }
    assert!(plain.is_empty(), "nobody else can make records");
}

/// The early payload in pieces gives what it gives as a whole.
pub(crate) fn ts2021_early(data: &[u8]) {
    let (mut whole, mut out) = (EarlyReader::new(), Vec::new());
    let rest = data.get(1..).unwrap_or_default();
    let first = whole.handle_plaintext(rest, &mut out);
    let (mut reader, mut pieced) = (EarlyReader::new(), Vec::new());
    let second = crate::pieces(data).try_for_each(|p| reader.handle_plaintext(p, &mut pieced));
    assert_eq!(first.is_ok(), second.is_ok());
    if first.is_ok() {
        assert_eq!(out, pieced);
        assert_eq!(whole.challenge(), reader.challenge());
    }
}

/// The map stream in pieces gives what it gives as a whole.
pub(crate) fn map_frames(data: &[u8]) {
    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
        let mut frames = MapFrames::new(1 << 16);
        let mut found = Vec::new();
        for mut piece in pieces {
            loop {
                match frames.next_frame(&mut piece) {
                    Ok(Some(frame)) => found.push(frame),
                    Ok(None) => break,
                    Err(_) => return (found, false),
                }
            }
        }
        (found, true)
    }
    let whole = read(std::iter::once(data.get(1..).unwrap_or_default()));
    assert_eq!(read(crate::pieces(data)), whole);
}

/// Map responses, one per line, into one session; each as JSON that means the same when written and read again.
pub(crate) fn map_response(data: &[u8]) {
    let mut session = MapSession::new();
    for (n, line) in data.split(|b| *b == b'\n').take(8).enumerate() {
        let Ok(response) = serde_json::from_slice::<MapResponse>(line) else {
            continue;
        };
        let text = serde_json::to_string(&response).expect("what was read can be written");
        let again = serde_json::from_str::<MapResponse>(&text).expect("and read again");
        assert_eq!(serde_json::to_string(&again).expect("written"), text);
        let _ = session.apply(response, Wall::from_unix_secs(1_700_000_000 + n as i64));
    }
}

/// One of the protocol's other messages, chosen by the first byte: it means the same when written and read again.
pub(crate) fn wire_json(data: &[u8]) {
    fn stable<T: Serialize + DeserializeOwned>(json: &[u8]) {
        let Ok(value) = serde_json::from_slice::<T>(json) else {
            return;
        };
        let text = serde_json::to_string(&value).expect("what was read can be written");
        let again = serde_json::from_str::<T>(&text).expect("and read again");
        assert_eq!(serde_json::to_string(&again).expect("written"), text);
    }
    let Some((which, json)) = data.split_first() else {
        return;
    };
    match which {
        b'0' => stable::<RegisterRequest>(json),
        b'1' => stable::<RegisterResponse>(json),
        b'2' => stable::<MapRequest>(json),
        b'3' => stable::<PingRequest>(json),
        b'4' => stable::<Node>(json),
        b'5' => stable::<Hostinfo>(json),
        b'6' => stable::<WhoIsResponse>(json),
        b'7' => stable::<OverTlsPublicKeyResponse>(json),
        b'8' => stable::<EarlyNoise>(json),
        _ => {}
    }
}

/// A compressed map message never takes more memory than allowed.
pub(crate) fn map_message(data: &[u8]) {
    let _ = decode_message(data, 1 << 16);
}

/// A request from the control server to us: its body is where its head says.
pub(crate) fn c2n(data: &[u8]) {
    if let Ok(request) = parse_request(data) {
        assert!(request.body.len() <= data.len());
        assert!(!request.path.contains('?'));
    }
}

/// Where a control server is, as users and other programs write it.
pub(crate) fn server_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(url) = ServerUrl::parse(text) {
        assert!(!url.host().is_empty());
        assert!(url.authority().contains(url.host()));
    }
}
