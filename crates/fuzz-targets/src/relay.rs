//! Relays: DERP streams, in whatever pieces they come, and STUN.

use derp::{ClientHandshake, ClientInfo, ServerHandshake, ServerInfo};
use keys::NodePrivate;
use netcheck::stun;

/// A server that says anything at all.
pub(crate) fn derp_client(data: &[u8]) {
    let mut rng = crate::rng();
    let private = NodePrivate::generate(&mut rng);
    let server = NodePrivate::generate(&mut rng).public();
    // With a known server key the steady state is reached at once.
    for known in [None, Some(server)] {
        let mut handshake = ClientHandshake::new(private.clone(), ClientInfo::default(), known);
        let mut pieces = crate::pieces(data);
        let mut decoder = loop {
            match handshake.poll(&mut rng) {
                Ok(Some(hello)) => break hello.decoder,
                Ok(None) => {}
                Err(_) => return,
            }
            let Some(piece) = pieces.next() else { return };
            handshake.reader().push(piece);
        };
        loop {
            match decoder.poll() {
                Ok(Some(_)) => continue,
                Ok(None) => {}
                Err(_) => break,
            }
            let Some(piece) = pieces.next() else { break };
            decoder.reader().push(piece);
        }
    }
}

/// A client that says anything at all, before and after a true hello.
pub(crate) fn derp_server(data: &[u8]) {
    let mut rng = crate::rng();
    let private = NodePrivate::generate(&mut rng);
    let client = NodePrivate::generate(&mut rng);
    let info = ServerInfo::default();
    let mut stranger = ServerHandshake::new(private.clone());
    for piece in crate::pieces(data) {
        stranger.reader().push(piece);
        if !matches!(stranger.poll(&info, &mut rng), Ok(None)) {
            break;
        }
    }

    let mut true_client =
        ClientHandshake::new(client, ClientInfo::default(), Some(private.public()));
    let Ok(Some(hello)) = true_client.poll(&mut rng) else {
        panic!("a client with a known server needs nothing else");
    };
    let mut handshake = ServerHandshake::new(private);
    handshake.reader().push(&hello.frame);
    let Ok(Some(mut accepted)) = handshake.poll(&info, &mut rng) else {
        panic!("a true hello is accepted");
    };
    for piece in crate::pieces(data) {
        accepted.decoder.reader().push(piece);
        loop {
            match accepted.decoder.poll() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// Requests and responses that can be read can be made.
pub(crate) fn stun(data: &[u8]) {
    let _ = stun::is_stun(data);
    if let Ok(tx) = stun::parse_request(data) {
        assert_eq!(stun::parse_request(&stun::request(tx)), Ok(tx));
    }
    if let Ok((tx, address)) = stun::parse_response(data) {
        let again = stun::response(tx, address);
        assert_eq!(stun::parse_response(&again), Ok((tx, address)));
    }
}
