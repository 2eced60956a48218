use std::collections::BTreeSet;
use std::time::Duration;

use host::{Instant, Wall};
use keys::{NodePrivate, NodePublic};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::testing::{Pair, Refusal, Time};
use crate::{Message, Source, classify};

const SECOND: Duration = Duration::from_secs(1);

fn initiation_of(pair: &mut Pair) -> Vec<u8> {
    let out = pair.a.send(b"x", pair.at);
    let [initiation] = out.as_slice() else {
        panic!("one initiation, not {}", out.len());
    };
    initiation.clone()
}

#[test]
fn wg_first_packet_arrives_after_one_round_trip() {
    let pair = Pair::established(1);
    assert_eq!(pair.b.inbox[0][..5], *b"hello");
    assert_eq!(pair.a.inbox[0][..12], *b"hello to you");
    assert!(pair.a.refused.is_empty() && pair.b.refused.is_empty());
    assert_eq!((pair.a.handshakes, pair.b.handshakes), (1, 1));
    assert_eq!(pair.a.peer.last_handshake(), Some(pair.at.wall));
}

#[test]
fn wg_initiator_confirms_with_a_keepalive_if_it_has_nothing_to_say() {
    let mut pair = Pair::new(2);
    pair.a.with(pair.at, |peer, ctx| peer.want_session(ctx));
    let out = pair.a.drain(pair.at);
    pair.deliver(out, Vec::new());
    assert_eq!(pair.a.keepalives, 1);
    assert!(pair.b.session(pair.at).is_some());
}

#[test]
fn wg_responder_does_not_send_before_it_hears_data() {
    let mut pair = Pair::new(3);
    let initiation = initiation_of(&mut pair);
    let response = pair.b.receive(&initiation, pair.a.source, pair.at);
    assert_eq!(response.len(), 1);
    assert!(pair.b.session(pair.at).is_none());
    let early = pair.b.send(b"too early", pair.at);
    assert!(
        early.is_empty(),
        "no handshake either: one was just answered"
    );
    let data = pair.a.receive(&response[0], pair.b.source, pair.at);
    let released = pair.b.receive(&data[0], pair.a.source, pair.at);
    assert!(pair.b.session(pair.at).is_some());
    assert_eq!(
        released.len(),
        1,
        "what waited goes out with the first data"
    );
}

#[test]
fn wg_duplicate_initiation_is_dropped_silently() {
    let mut pair = Pair::new(4);
    let initiation = initiation_of(&mut pair);
    let relay = Source::Relay(pair.a.identity.public());
    assert_eq!(pair.b.receive(&initiation, pair.a.source, pair.at).len(), 1);
    assert!(pair.b.receive(&initiation, relay, pair.at).is_empty());
    assert_eq!(
        pair.b.refused,
        [Refusal::Handshake(HandshakeError::Replayed)]
    );
    // Long after, too.
    pair.at = pair.at.after(SECOND * 3600);
    assert!(pair.b.receive(&initiation, relay, pair.at).is_empty());
    assert_eq!(pair.b.handshakes, 1);
}

#[test]
fn wg_initiations_in_quick_succession_are_dropped() {
    let mut pair = Pair::new(5);
    let first = initiation_of(&mut pair);
    pair.a.with(pair.at, |peer, ctx| peer.close(ctx.indices));
    let second = initiation_of(&mut pair);
    pair.b.receive(&first, pair.a.source, pair.at);
    pair.b.receive(&second, pair.a.source, pair.at);
    assert_eq!(
        pair.b.refused,
        [Refusal::Handshake(HandshakeError::TooSoon)]
    );
    pair.at = pair.at.after(Duration::from_millis(21));
    pair.b.receive(&second, pair.a.source, pair.at);
    assert_eq!(pair.b.handshakes, 2);
}

#[test]
fn wg_timestamps_increase_when_the_clock_does_not() {
    let mut pair = Pair::new(6);
    let first = initiation_of(&mut pair);
    pair.b.receive(&first, pair.a.source, pair.at);
    // The civil clock is set back by a year; monotonic time goes on.
    pair.at = Time {
        now: pair.at.now + SECOND * 20,
        wall: Wall::from_unix_secs(1_670_000_000),
    };
    let retry = pair.a.tick(pair.at);
    assert_eq!(retry.len(), 1);
    assert_eq!(pair.b.receive(&retry[0], pair.a.source, pair.at).len(), 1);
    assert!(pair.b.refused.is_empty());
}

/// An attacker who saw the initiation races the responder with responses whose first authenticator is right.
#[test]
fn wg_invalid_response_does_not_kill_handshake() {
    let mut pair = Pair::new(7);
    let initiation = initiation_of(&mut pair);
    let response = pair
        .b
        .receive(&initiation, pair.a.source, pair.at)
        .remove(0);
    let forgeries = [(12, 12 + 32), (44, 44 + 16)].map(|(from, to)| {
        let mut forged = response.clone();
        forged[from..to].fill(9);
        let mac = pair.a.identity.macs.mac1(&forged[..60]);
        forged[60..76].copy_from_slice(&mac);
        forged
    });
    for forged in forgeries {
        pair.a.receive(&forged, pair.b.source, pair.at);
    }
    assert_eq!(
        pair.a.refused,
        [Refusal::Handshake(HandshakeError::Forged); 2]
    );
    let data = pair.a.receive(&response, pair.b.source, pair.at);
    pair.deliver(data, Vec::new());
    assert_eq!(pair.b.inbox.len(), 1, "the true response still counts");
}

#[test]
fn wg_response_counts_once() {
    let mut pair = Pair::new(9);
    let initiation = initiation_of(&mut pair);
    let response = pair
        .b
        .receive(&initiation, pair.a.source, pair.at)
        .remove(0);
    pair.a.receive(&response, pair.b.source, pair.at);
    let data = pair.a.receive(&response, pair.b.source, pair.at);
    assert!(data.is_empty());
    assert_eq!(
        pair.a.refused,
        [Refusal::Handshake(HandshakeError::Unexpected)]
    );
    pair.a_sends(b"the session is the first one");
    pair.b_sends(b"and works both ways");
    assert_eq!((pair.a.inbox.len(), pair.b.inbox.len()), (1, 1));
}

#[test]
fn wg_wrong_mac1_costs_nothing() {
    let mut pair = Pair::new(10);
    let mut initiation = initiation_of(&mut pair);
    initiation[116] ^= 1;
    assert!(
        pair.b
            .receive(&initiation, pair.a.source, pair.at)
            .is_empty()
    );
    assert_eq!(pair.b.refused, [Refusal::Gate]);
    assert!(pair.b.indices.is_empty());
}

#[test]
fn wg_failed_handshakes_leave_no_index() {
    let mut pair = Pair::new(29);
    let mut initiation = initiation_of(&mut pair);
    // A replayed ephemeral and static key with a timestamp that does not fit: all but the last check passes.
    initiation[88..116].fill(7);
    let mac = pair.b.identity.macs.mac1(&initiation[..116]);
    initiation[116..132].copy_from_slice(&mac);
    assert!(
        pair.b
            .receive(&initiation, pair.a.source, pair.at)
            .is_empty()
    );
    assert_eq!(pair.b.refused, [Refusal::Handshake(HandshakeError::Forged)]);
    assert!(pair.b.indices.is_empty());
    assert_eq!(pair.b.peer.next_timeout(), None);
}

#[test]
fn wg_low_order_peer_key_is_refused() {
    let mut rng = StdRng::seed_from_u64(11);
    let identity = Identity::new(NodePrivate::generate(&mut rng));
    assert!(Peer::new(Arc::clone(&identity), NodePublic::ZERO).is_none());
    let mut one = [0; 32];
    one[0] = 1;
    assert!(Peer::new(identity, NodePublic::from_bytes(one)).is_none());
}

#[test]
fn wg_initiation_of_another_peer_is_refused() {
    let mut pair = Pair::new(12);
    let initiation = initiation_of(&mut pair);
    let Ok(Message::Initiation(message)) = classify(&initiation) else {
        panic!("an initiation");
    };
    let opened = pair.b.identity.open_initiation(&message).expect("ours");
    assert_eq!(opened.peer, pair.a.identity.public());
    let mut rng = StdRng::seed_from_u64(99);
    let stranger = NodePrivate::generate(&mut rng).public();
    let mut other = Peer::new(Arc::clone(&pair.b.identity), stranger).expect("a good key");
    let result = pair
        .b
        .with(pair.at, |_, ctx| other.handle_initiation(opened, ctx));
    assert_eq!(result, Err(HandshakeError::WrongPeer));
}

#[test]
fn wg_crossing_initiations_converge() {
    let mut pair = Pair::new(13);
    let from_a = pair.a.send(b"from a", pair.at);
    let from_b = pair.b.send(b"from b", pair.at);
    let to_a = pair.b.receive(&from_a[0], pair.a.source, pair.at);
    let to_b = pair.a.receive(&from_b[0], pair.b.source, pair.at);
    pair.deliver(to_b, to_a);
    assert_eq!(pair.a.inbox.len(), 1);
    assert_eq!(pair.b.inbox.len(), 1);
    for _ in 0..10 {
        pair.a_sends(b"more");
        pair.b_sends(b"more");
    }
    assert_eq!(pair.a.inbox.len(), 11);
    assert_eq!(pair.b.inbox.len(), 11);
    assert!(pair.a.refused.is_empty() && pair.b.refused.is_empty());
}

#[test]
fn wg_rekeys_after_120_seconds_of_use_by_the_initiator_only() {
    let mut pair = Pair::established(14);
    let first = pair.a.session(pair.at).map(|s| s.local_index());
    for _ in 0..119 {
        pair.at = pair.at.after(SECOND);
        pair.a_sends(b"tick");
        pair.b_sends(b"tock");
    }
    assert_eq!(pair.a.handshakes, 1);
    pair.at = pair.at.after(SECOND * 2);
    pair.b_sends(b"the responder does not begin");
    assert_eq!((pair.a.handshakes, pair.b.handshakes), (1, 1));
    pair.a_sends(b"the initiator does");
    assert_eq!((pair.a.handshakes, pair.b.handshakes), (2, 2));
    assert_ne!(pair.a.session(pair.at).map(|s| s.local_index()), first);
}

#[test]
fn wg_rekeys_shortly_before_expiry_when_only_receiving() {
    let mut pair = Pair::established(15);
    pair.at = pair.at.after(SECOND * 166);
    pair.b_sends(b"one way");
    assert_eq!(pair.a.handshakes, 2);
    pair.b_sends(b"one way");
    assert_eq!(pair.a.handshakes, 2, "asked once");
}

#[test]
fn wg_rekeys_after_2_to_the_60_messages() {
    let mut pair = Pair::established(16);
    let session = pair.b.session(pair.at).expect("a session");
    session.set_next_counter((1 << 60) - 1);
    pair.at = pair.at.after(SECOND * 6);
    pair.b_sends(b"the last before");
    assert_eq!(pair.b.handshakes, 1);
    pair.b_sends(b"one more");
    assert_eq!(pair.b.handshakes, 2, "the responder too");
}

#[test]
fn wg_session_is_refused_after_180_seconds() {
    let mut pair = Pair::established(17);
    let session = pair.a.session(pair.at).expect("a session");
    let late = pair.at.after(SECOND * 180);
    let mut sealed = Vec::new();
    let almost = pair.at.after(SECOND * 180 - Duration::from_nanos(1));
    session
        .seal(almost.now, b"x", 0, &mut sealed)
        .expect("still good");
    assert_eq!(
        session.seal(late.now, b"x", 0, &mut Vec::new()),
        Err(crate::SealError::Expired)
    );
    pair.b.receive(&sealed, pair.a.source, late);
    assert_eq!(pair.b.refused, [Refusal::Data(crate::OpenError::Expired)]);
    assert!(pair.a.session(late).is_none());
    pair.a.tick(late);
    assert_eq!(pair.a.peer.state(), State::Expired);
}

#[test]
fn wg_keys_are_wiped_after_540_seconds_and_nothing_is_left() {
    let mut pair = Pair::established(18);
    let weak = Arc::downgrade(&pair.a.session(pair.at).expect("a session"));
    pair.pass(SECOND * 539);
    assert!(weak.upgrade().is_some());
    pair.pass(SECOND * 2);
    assert!(weak.upgrade().is_none(), "nobody holds the keys");
    assert!(pair.a.indices.is_empty() && pair.b.indices.is_empty());
    assert_eq!(pair.a.events.last(), Some(&Output::Idle));
    assert_eq!(pair.next_timeout(), None, "an idle peer wakes nobody");
}

#[test]
fn wg_gives_up_after_90_seconds_without_an_answer() {
    let mut pair = Pair::new(19);
    pair.a.send(b"anybody there?", pair.at);
    let start = pair.at.now;
    let mut gaps = Vec::new();
    let mut last = start;
    while !pair.a.events.contains(&Output::GaveUp) {
        let next = pair.a.peer.next_timeout().expect("a retry");
        pair.at = pair.at.after(next.since(pair.at.now));
        if !pair.a.tick(pair.at).is_empty() {
            gaps.push(pair.at.now.since(last));
            last = pair.at.now;
        }
    }
    let span = pair.at.now.since(start);
    assert!((SECOND * 90..SECOND * 110).contains(&span), "{span:?}");
    assert!(
        gaps.iter()
            .all(|gap| (SECOND * 5..SECOND * 6).contains(gap))
    );
    assert!(gaps.iter().collect::<BTreeSet<_>>().len() > 5, "jitter");
    assert!(pair.a.queue.is_empty());
    assert!(pair.a.indices.is_empty(), "failed handshakes leave nothing");
}

#[test]
fn wg_keepalive_after_10_seconds_of_only_hearing() {
    let mut pair = Pair::established(20);
    let heard = pair.at.now;
    pair.a_sends(b"question");
    assert_eq!(
        pair.b.peer.next_timeout(),
        Some(heard + SECOND * 10),
        "b owes an answer"
    );
    pair.pass(SECOND * 10);
    assert_eq!((pair.a.keepalives, pair.b.keepalives), (0, 1));
}

#[test]
fn wg_no_keepalive_ping_pong() {
    let mut pair = Pair::established(21);
    pair.a_sends(b"one packet");
    pair.pass(SECOND * 100);
    assert!(pair.a.keepalives <= 1 && pair.b.keepalives <= 1);
    let before = (pair.a.keepalives, pair.b.keepalives);
    pair.pass(SECOND * 60);
    assert_eq!((pair.a.keepalives, pair.b.keepalives), before);
}

#[test]
fn wg_one_keepalive_answers_all_data_before_it() {
    let mut pair = Pair::established(22);
    pair.b_sends(b"settled");
    pair.pass(SECOND * 30);
    let before = pair.b.keepalives;
    pair.a_sends(b"one");
    pair.pass(SECOND * 5);
    pair.a_sends(b"two");
    pair.pass(SECOND * 6);
    assert_eq!(pair.b.keepalives, before + 1);
    pair.pass(SECOND * 10);
    assert_eq!(pair.b.keepalives, before + 1);
    pair.a_sends(b"three");
    pair.pass(SECOND * 10);
    assert_eq!(pair.b.keepalives, before + 2);
}

#[test]
fn wg_asks_for_a_new_session_after_15_seconds_of_silence() {
    let mut pair = Pair::established(23);
    pair.pass(SECOND * 30);
    let lost = pair.a.send(b"into the void", pair.at);
    assert_eq!(lost.len(), 1);
    let next = pair.a.peer.next_timeout().expect("a timer");
    let wait = next.since(pair.at.now);
    assert!(
        (SECOND * 15..SECOND * 15 + Duration::from_millis(334)).contains(&wait),
        "{wait:?}"
    );
    pair.at = pair.at.after(wait);
    let out = pair.a.tick(pair.at);
    assert!(matches!(classify(&out[0]), Ok(Message::Initiation(_))));
    assert!(
        pair.a.session(pair.at).is_some(),
        "the old one still serves"
    );
}

#[test]
fn wg_session_indices_are_unpredictable() {
    let mut pair = Pair::new(24);
    let mut seen = Vec::new();
    for _ in 0..64 {
        pair.at = pair.at.after(SECOND * 6);
        pair.a.with(pair.at, |peer, ctx| peer.begin(ctx));
        let out = pair.a.drain(pair.at);
        let Ok(Message::Initiation(initiation)) = classify(&out[0]) else {
            panic!("an initiation");
        };
        seen.push(initiation.sender());
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 64);
    let (or, and) = seen
        .iter()
        .fold((0, u32::MAX), |(or, and), index| (or | index, and & index));
    assert_eq!((or, and), (u32::MAX, 0), "all 32 bits vary");
    let steps: BTreeSet<u32> = seen.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
    assert_eq!(steps.len(), 63, "no constant step");
    assert_eq!(pair.a.indices.len(), 1, "abandoned ones are given back");
}

#[test]
fn wg_clock_going_back_does_not_panic() {
    let mut pair = Pair::established(25);
    pair.pass(SECOND * 50);
    let past = Time {
        now: Instant::ZERO,
        wall: Wall::from_unix_secs(-5),
    };
    pair.at = past;
    pair.a_sends(b"back then");
    pair.b_sends(b"back then");
    let (a, b) = (pair.a.tick(past), pair.b.tick(past));
    pair.deliver(a, b);
    pair.a.with(past, |peer, ctx| peer.begin(ctx));
    let out = pair.a.drain(past);
    assert_eq!(out.len(), 1, "a handshake in the future shuts nobody out");
    pair.deliver(out, Vec::new());
    assert_eq!(pair.b.handshakes, 2);
}

#[test]
fn wg_keys_do_not_print() {
    let pair = Pair::established(26);
    let session = pair.a.session(pair.at).expect("a session");
    let text = format!(
        "{:?} {:?} {:?} {:?} {:?}",
        pair.a.identity, pair.a.peer, session, pair.a.gate, pair.a.indices
    );
    assert!(!text.contains("private") && !text.contains("static_static"));
    assert!(!text.contains("chain") && !text.contains("secret"));
    // Only public keys are as long as this.
    for word in text.split(|c: char| !c.is_ascii_hexdigit()) {
        if word.len() >= 32 {
            let public = [pair.a.identity.public(), pair.b.identity.public()];
            assert!(public.iter().any(|key| key.to_string().contains(word)));
        }
    }
}

#[test]
fn wg_peer_that_restarted_is_asked_anew() {
    let mut pair = Pair::established(27);
    pair.at = pair.at.after(SECOND);
    pair.a.with(pair.at, |peer, ctx| peer.close(ctx.indices));
    assert!(pair.a.indices.is_empty());
    pair.a_sends(b"after the reset");
    assert!(
        pair.b
            .inbox
            .iter()
            .any(|p| p.starts_with(b"after the reset"))
    );
}

#[test]
fn wg_first_message_goes_before_what_waited() {
    let mut pair = Pair::new(28);
    let initiation = initiation_of(&mut pair);
    let response = pair
        .b
        .receive(&initiation, pair.a.source, pair.at)
        .remove(0);
    let Ok(Message::Response(message)) = classify(&response) else {
        panic!("a response");
    };
    pair.a
        .with(pair.at, |peer, ctx| peer.handle_response(&message, ctx))
        .expect("accepted");
    assert_eq!(
        pair.a.peer.poll_output(pair.at.now),
        Some(Output::Established)
    );
    let session = pair.a.session(pair.at).expect("current already");
    session
        .seal(pair.at.now, b"priority", 0, &mut Vec::new())
        .expect("sealed");
    assert_eq!(
        pair.a.peer.poll_output(pair.at.now),
        None,
        "no keepalive needed"
    );
}
