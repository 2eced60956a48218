use std::time::Duration;

use host::LinkMonitor as _;
use os::links::Monitor;
use os::netlink::route::{TABLE_MAIN, UNICAST, set_link_up};
use os::netlink::{Address, Netlink, Protocol, Route};

use crate::in_namespace;

#[test]
fn an_interface_comes_changes_and_goes() {
    in_namespace("an_interface_comes_changes_and_goes", async || {
        let mut monitor = Monitor::start(Some("tst0".into())).unwrap();
        assert!(!monitor.current().up);
        let mut kernel = Netlink::open(Protocol::Route).unwrap();
        // To the monitor any device but ours is a link like others.
        let _wire = os::tun::open("wire0", 1500).unwrap();
        let link = kernel.link_named("wire0").unwrap().unwrap().index;
        let address = |net: &str| Address {
            link,
            net: net.parse().unwrap(),
        };
        let default = Route {
            to: "0.0.0.0/0".parse().unwrap(),
            table: TABLE_MAIN,
            kind: UNICAST,
            link: Some(link),
            gateway: None,
            metric: 0,
        };
        kernel.request(set_link_up(link, true)).unwrap();
        kernel.request(address("192.0.2.7/24").add()).unwrap();
        kernel.request(default.add()).unwrap();
        let mut last = monitor.changed().await;
        // The first look may have come too early to see all.
        while last.now.default_interface.is_none() {
            last = monitor.changed().await;
        }
        assert!(last.major && last.now.up && last.now.have_v4, "{last:?}");
        assert_eq!(last.now.default_interface.as_deref(), Some("wire0"));
        assert_eq!(last.now.addresses, [std::net::IpAddr::from([192, 0, 2, 7])]);

        // Our own device is no news.
        let _own = os::tun::open("tst0", 1280).unwrap();
        let own = kernel.link_named("tst0").unwrap().unwrap().index;
        kernel.request(set_link_up(own, true)).unwrap();
        let net = "100.64.0.1/32".parse().unwrap();
        kernel.request(Address { link: own, net }.add()).unwrap();
        let silence = tokio::time::timeout(Duration::from_millis(1500), monitor.changed());
        assert!(silence.await.is_err());

        kernel.request(address("192.0.2.7/24").remove()).unwrap();
        let lost = monitor.changed().await;
        assert!(!lost.now.up && !lost.major, "{lost:?}");
        assert_eq!(*monitor.current(), *lost.now);
    });
}
