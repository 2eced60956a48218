use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

use host::Waker;
use netstack::{Config, Netstack};
use rt::OsRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const A: &str = "100.64.0.1";
const B: &str = "100.64.0.2";

/// Two hubs whose stacks are joined back to back, on one thread, as the engine would run each.
struct Pair {
    dial: Dialer,
    callers: IncomingFlows,
    stop: mpsc::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Pair {
    fn start() -> Self {
        let (stop, inbox) = mpsc::channel();
        let waker = Waker::new({
            let stop = stop.clone();
            move || {
                let _ = stop.send(false);
            }
        });
        let (hub_a, dial, _) = FlowHub::new(waker.clone());
        let (hub_b, _, callers) = FlowHub::new(waker);
        let thread = std::thread::spawn(move || pump([(A, hub_a), (B, hub_b)], &inbox));
        Self {
            dial,
            callers,
            stop,
            thread: Some(thread),
        }
    }

    async fn open(&mut self) -> (TcpStream, TcpStream) {
        let dial = self.dial.clone();
        let there = rt_task(async move { dial.tcp(addr(B, 80)).await });
        let Some(Incoming::Tcp(caller)) = self.callers.recv().await else {
            panic!("no caller")
        };
        assert_eq!(caller.local, addr(B, 80));
        let here = caller.accept().await.unwrap();
        (there.await.unwrap().unwrap(), here)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "tests look at the result")]
fn rt_task<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}

fn pump(sides: [(&str, FlowHub); 2], inbox: &mpsc::Receiver<bool>) {
    let mut sides = sides.map(|(address, hub)| {
        let config = Config {
            addresses: vec![address.parse().unwrap()],
            ..Config::default()
        };
        (Netstack::new(config), hub)
    });
    let mut packet = Vec::new();
    loop {
        let now = rt::now();
        let mut moved = false;
        for side in [0, 1] {
            let (stack, hub) = &mut sides[side];
            if stack.next_timeout().is_some_and(|at| at <= now) {
                stack.handle_timeout(now);
            }
            hub.turn(stack, now, &mut OsRng);
            for _ in 0..64 {
                if sides[side].0.poll_transmit(&mut packet, now).is_none() {
                    break;
                }
                moved = true;
                sides[1 - side].0.handle_packet(&packet, now);
            }
        }
        let next = sides
            .iter()
            .filter_map(|(stack, _)| stack.next_timeout())
            .min();
        let wait = match (moved, next) {
            (true, _) => Duration::ZERO,
            (false, Some(at)) => now.until(at),
            (false, None) => Duration::from_secs(3600),
        };
        match inbox.recv_timeout(wait) {
            Ok(true) => return,
            Ok(false) => {
                if inbox.try_iter().any(|stop| stop) {
                    return;
                }
            }
            Err(_) => {}
        }
    }
}

fn addr(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes_cross_both_ways_with_half_closes() {
    let mut pair = Pair::start();
    let (a, b) = pair.open().await;
    assert_eq!((a.peer_addr(), b.local_addr()), (addr(B, 80), addr(B, 80)));
    assert_eq!(a.local_addr(), b.peer_addr());
    let run = |mut stream: TcpStream, fill: u8, len: usize| {
        rt_task(async move {
            let (mut read, mut write) = tokio::io::split(&mut stream);
            let send = async {
                write.write_all(&vec![fill; len]).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let receive = async { read.read_to_end(&mut got).await.unwrap() };
            tokio::join!(send, receive);
            got
        })
    };
    let (a, b) = (run(a, 1, 20_000_000), run(b, 2, 3_000_000));
    assert!(a.await.unwrap() == vec![2; 3_000_000]);
    assert!(b.await.unwrap() == vec![1; 20_000_000]);
}

#[tokio::test]
async fn a_reader_that_waits_holds_the_writer_back() {
    let mut pair = Pair::start();
    let (mut a, mut b) = pair.open().await;
    let mut written = 0;
    while let Ok(n) = tokio::time::timeout(Duration::from_millis(300), a.write(&[7; 100_000])).await
    {
        written += n.unwrap();
        assert!(written < 50_000_000);
    }
    let mut got = vec![0; written];
    b.read_exact(&mut got).await.unwrap();
    assert!(got.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn refusals_and_disappearances_are_errors() {
    let mut pair = Pair::start();
    let dial = pair.dial.clone();
    let attempt = rt_task(async move { dial.tcp(addr(B, 81)).await });
    let Some(Incoming::Tcp(caller)) = pair.callers.recv().await else {
        panic!()
    };
    drop(caller);
    assert_eq!(
        attempt.await.unwrap().unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );

    // A caller that gives up is noticed before it is answered.
    let dial = pair.dial.clone();
    let attempt = rt_task(async move { dial.tcp(addr(B, 82)).await });
    let Some(Incoming::Tcp(caller)) = pair.callers.recv().await else {
        panic!()
    };
    attempt.abort();
    caller.gone().await;
    assert!(caller.accept().await.is_err());

    let v6 = pair
        .dial
        .tcp("[fd7a:115c:a1e0::1]:80".parse().unwrap())
        .await;
    assert_eq!(v6.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);

    let (mut a, b) = pair.open().await;
    a.write_all(b"unread").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(b);
    assert_eq!(
        a.read(&mut [0; 10]).await.unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn what_was_written_before_the_drop_arrives() {
    let mut pair = Pair::start();
    let (mut a, mut b) = pair.open().await;
    a.write_all(&[3; 200_000]).await.unwrap();
    drop(a);
    let mut got = Vec::new();
    b.read_to_end(&mut got).await.unwrap();
    assert!(got == vec![3; 200_000]);
}

#[tokio::test]
async fn the_end_of_the_engine_ends_all_streams() {
    let mut pair = Pair::start();
    let dial = pair.dial.clone();
    let (mut a, _b) = pair.open().await;
    drop(pair);
    assert_eq!(
        a.read(&mut [0; 10]).await.unwrap_err().kind(),
        io::ErrorKind::ConnectionAborted
    );
    assert!(a.write(&[0; 10]).await.is_err());
    assert_eq!(
        dial.tcp(addr(B, 80)).await.unwrap_err().kind(),
        io::ErrorKind::NotConnected
    );
    assert_eq!(
        dial.udp(addr(B, 80)).await.unwrap_err().kind(),
        io::ErrorKind::NotConnected
    );
}

#[tokio::test]
async fn datagrams_cross_both_ways() {
    let mut pair = Pair::start();
    let mut buffer = [0; 1500];
    let a = pair.dial.udp(addr(B, 53)).await.unwrap();
    a.send(b"question").await.unwrap();
    let Some(Incoming::Udp(caller)) = pair.callers.recv().await else {
        panic!()
    };
    assert_eq!((caller.local, caller.remote), (addr(B, 53), a.local_addr()));
    let b = caller.accept().await.unwrap();
    assert_eq!(b.recv(&mut buffer).await.unwrap(), 8);
    b.send(b"answer").await.unwrap();
    assert_eq!(a.recv(&mut buffer).await.unwrap(), 6);
    assert_eq!(&buffer[..6], b"answer");
    let mut large = vec![0; 65_535];
    a.send(&[5; 20_000]).await.unwrap();
    assert_eq!(b.recv(&mut large).await.unwrap(), 20_000);
    assert!(a.send(&[0; 65_508]).await.is_err());
    // What does not fit is cut off.
    b.send(&[9; 100]).await.unwrap();
    assert_eq!(a.recv(&mut buffer[..10]).await.unwrap(), 10);
}
