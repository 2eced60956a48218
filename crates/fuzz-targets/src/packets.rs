//! Packets from the tunnel and datagrams from the network.

use std::sync::Arc;

use filter::{Filter, Flows, LocalSet, Rules, no_caps};
use host::Instant;
use netstack::{Config, Event, Netstack};
use packet::{IpView, disco, geneve, icmp};
use tailcfg::FilterRule;

/// A view never reaches outside its packet and is the same when read again.
pub(crate) fn ip(data: &[u8]) {
    let Ok(view) = IpView::parse(data) else {
        return;
    };
    assert!(data.starts_with(view.bytes()));
    assert!(view.transport_offset() <= view.bytes().len());
    assert_eq!(IpView::parse(view.bytes()), Ok(view));
    let _ = (view.icmp(), view.payload(), view.is_tcp_syn());
    if let Some(echo) = icmp::Echo::parse(&view) {
        let again = echo.packet(view.src(), view.dst());
        let again = again.expect("an echo of one family");
        let again = IpView::parse(&again).expect("what we make can be read");
        assert_eq!(icmp::Echo::parse(&again), Some(echo));
    }
    let router = view.dst();
    if let Some(error) = icmp::error(&view, router, icmp::Error::TooBig(1280)) {
        let error = IpView::parse(&error).expect("what we make can be read");
        assert!(icmp::is_error(&error));
        assert!(icmp::error(&error, router, icmp::Error::NoRoute).is_none());
    }
}

/// What is read can be written and read again.
pub(crate) fn tsmp(data: &[u8]) {
    let (src, dst) = ([100, 64, 0, 1].into(), [100, 64, 0, 2].into());
    let Some(packet) = packet::ip_packet(src, dst, packet::Proto::TSMP, data) else {
        return;
    };
    let Ok(view) = IpView::parse(&packet) else {
        return;
    };
    let Some(message) = packet::tsmp::Message::parse(&view) else {
        return;
    };
    let again = message.packet(src, dst).expect("one family");
    let view = IpView::parse(&again).expect("what we make can be read");
    assert_eq!(packet::tsmp::Message::parse(&view), Some(message));
}

/// What is read can be written, and what was written is read the same.
pub(crate) fn disco(data: &[u8]) {
    let _ = disco::Envelope::parse(data);
    let Ok(message) = disco::Message::parse(data) else {
        return;
    };
    let mut once = Vec::new();
    message.encode(&mut once);
    assert!(once.len() <= data.len());
    let again = disco::Message::parse(&once).expect("what we write can be read");
    let mut twice = Vec::new();
    again.encode(&mut twice);
    assert_eq!(once, twice);
}

/// The header has one form only.
pub(crate) fn geneve(data: &[u8]) {
    if let Some((header, rest)) = geneve::Header::split(data) {
        assert!(header.vni < 1 << 24);
        let mut again = header.bytes().to_vec();
        again.extend_from_slice(rest);
        // Bit 6 of the second byte (critical options) is not ours to keep.
        again[1] |= data[1] & 0x40;
        assert_eq!(again, data);
    }
}

/// Rules as JSON, a line feed, then a packet. Whatever the rules: a packet that may leave opens the way for its reply, and
/// judging twice gives the same.
pub(crate) fn filter(data: &[u8]) {
    let end = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (rules, packet) = data.split_at(end);
    let Ok(rules) = serde_json::from_slice::<Vec<FilterRule>>(rules) else {
        return;
    };
    let (rules, _) = Rules::parse(&rules);
    let local = LocalSet::new([
        "10.0.0.0/8".parse().expect("a prefix"),
        "fd00::/8".parse().expect("a prefix"),
    ]);
    let filter = Filter::new(rules, local, Arc::new(Flows::new()));
    let Ok(view) = IpView::parse(packet.get(1..).unwrap_or_default()) else {
        return;
    };
    let verdict = filter.judge_in(&view, &no_caps);
    assert_eq!(filter.judge_in(&view, &no_caps), verdict);
    let _ = filter.caps_of(view.src(), view.dst());
    filter.judge_out(&view);
}

/// Packets of all lengths, each behind its length as u16 little-endian, into an endpoint that accepts every caller.
pub(crate) fn netstack(data: &[u8]) {
    let mut stack = Netstack::new(Config {
        addresses: vec![[10, 0, 0, 1].into(), "fd00::1".parse().expect("an address")],
        ..Config::default()
    });
    let mut rng = crate::rng();
    let mut now = Instant::from_nanos(1_000_000_000);
    let mut rest = data;
    let mut out = Vec::new();
    while let Some((len, tail)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len)).min(tail.len());
        let (packet, tail) = tail.split_at(len);
        rest = tail;
        stack.handle_packet(packet, now);
        while let Some(event) = stack.poll_event() {
            if let Event::Incoming { id, .. } = event {
                stack.accept(id, now, &mut rng);
            }
        }
        for _ in 0..64 {
            out.clear();
            if stack.poll_transmit(&mut out, now).is_none() {
                break;
            }
            assert!(IpView::parse(&out).is_ok(), "we send only packets");
        }
        now += std::time::Duration::from_millis(300);
        stack.handle_timeout(now);
    }
}
