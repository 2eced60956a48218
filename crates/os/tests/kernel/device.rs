use std::io::IoSlice;
use std::net::UdpSocket;

use host::{Csum, Gso, Router as _, RouterConfig, Tun as _, TunTx, Until};
use os::netlink::route::{remove_link, set_link_up};
use os::netlink::{Netlink, Protocol};
use os::router::LinuxRouter;
use packet::{IpView, Proto, ip_packet};

use crate::in_namespace;

fn netlink() -> Netlink {
    Netlink::open(Protocol::Route).unwrap()
}

fn config() -> RouterConfig {
    RouterConfig {
        addresses: vec!["100.64.0.1/32".parse().unwrap()],
        routes: vec!["100.64.0.2/32".parse().unwrap()],
        ..RouterConfig::default()
    }
}

#[test]
fn packets_pass_both_ways() {
    in_namespace("packets_pass_both_ways", async || {
        let mut device = os::tun::open("tst%d", 1280).unwrap();
        assert_eq!(device.name(), "tst0");
        let link = netlink().link_named("tst0").unwrap().unwrap();
        assert_eq!(link.mtu, 1280);
        let mut router = LinuxRouter::new("tst0").unwrap();
        assert_eq!(router.apply(&config()).failures, Vec::<String>::new());
        let queue = device.queues().remove(0);

        let socket = UdpSocket::bind("100.64.0.1:4000").unwrap();
        socket.send_to(b"out", "100.64.0.2:5000").unwrap();
        let (mut buf, mut out) = (vec![0; 256 << 10], Vec::new());
        // The kernel talks of its own accord on a fresh link.
        let packet = loop {
            queue.recv(&mut buf, &mut out, Until::Woken).unwrap();
            let mut seen = out
                .drain(..)
                .map(|rx| buf[rx.off as usize..][..rx.len as usize].to_vec());
            if let Some(packet) = seen.find(|packet| packet[0] >> 4 == 4) {
                break packet;
            }
        };
        let view = IpView::parse(&packet).unwrap();
        assert_eq!(view.dst_addr(), "100.64.0.2:5000".parse().unwrap());
        assert_eq!(view.payload(), b"out");

        let datagram = [&[0x13, 0x88, 0x0f, 0xa0, 0, 10, 0, 0][..], b"in"].concat();
        let answer = ip_packet(view.dst(), view.src(), Proto::UDP, &datagram).unwrap();
        let (head, tail) = answer.split_at(13);
        let iov = [IoSlice::new(head), IoSlice::new(tail)];
        let sent = queue.send(&[TunTx {
            gso: Gso::default(),
            csum: Csum::Full,
            iov: &iov,
        }]);
        assert_eq!((sent.done, sent.lost), (1, Default::default()));
        let len = socket.recv(&mut buf).unwrap();
        assert_eq!(&buf[..len], b"in");

        // What is no packet is refused by the kernel, and counted.
        let nonsense = [IoSlice::new(&[0xff; 3])];
        let sent = queue.send(&[TunTx {
            gso: Gso::default(),
            csum: Csum::Full,
            iov: &nonsense,
        }]);
        assert_eq!((sent.done, sent.lost.other), (1, 1));
    });
}

#[test]
fn a_second_user_of_a_name_is_told() {
    in_namespace("a_second_user_of_a_name_is_told", async || {
        let first = os::tun::open("tst0", 1280).unwrap();
        let error = os::tun::open("tst0", 1280).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("tstun.New(\"tst0\"): ") && text.contains("another process holds it"),
            "{text}"
        );
        drop(first);
        drop(os::tun::open("tst0", 1280).unwrap());
        let error = os::tun::open("lo", 1280).unwrap_err().to_string();
        assert!(error.starts_with("tstun.New(\"lo\"): "), "{error}");
    });
}

#[test]
fn a_device_may_go_down_and_come_back_and_vanish() {
    in_namespace(
        "a_device_may_go_down_and_come_back_and_vanish",
        async || {
            let mut device = os::tun::open("tst0", 1280).unwrap();
            let mut router = LinuxRouter::new("tst0").unwrap();
            router.apply(&config());
            let queue = device.queues().remove(0);
            let link = netlink().link_named("tst0").unwrap().unwrap().index;
            let reader = std::thread::spawn({
                let queue = queue.clone();
                move || {
                    let (mut buf, mut out) = (vec![0; 256 << 10], Vec::new());
                    loop {
                        out.clear();
                        if let Err(error) = queue.recv(&mut buf, &mut out, Until::Woken) {
                            return error;
                        }
                    }
                }
            });
            netlink().request(set_link_up(link, false)).unwrap();
            let packet = ip_packet(
                "100.64.0.2".parse().unwrap(),
                "100.64.0.1".parse().unwrap(),
                Proto::UDP,
                &[0; 8],
            );
            let packet = packet.unwrap();
            let iov = [IoSlice::new(&packet)];
            let send = || {
                queue.send(&[TunTx {
                    gso: Gso::default(),
                    csum: Csum::Full,
                    iov: &iov,
                }])
            };
            assert_eq!(send().lost.unreachable, 1);
            // Up again, with routes: a device that goes down loses them.
            assert_eq!(router.apply(&config()).failures, Vec::<String>::new());
            assert_eq!(send().lost, Default::default());
            let routes = netlink().routes().unwrap();
            assert!(routes.iter().any(|route| route.table == 52));
            netlink().request(remove_link(link)).unwrap();
            let error = reader.join().unwrap();
            assert!(!error.to_string().is_empty());
            assert_eq!(send().done, 1, "lost, and no panic");
            let failures = router.apply(&config()).failures;
            assert!(
                !failures.is_empty(),
                "nothing can be set on a device that is gone"
            );
        },
    );
}
