//! Device, router and monitor against a real kernel, in network namespaces that the tests make. Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

#[cfg(target_os = "linux")]
mod device;
#[cfg(target_os = "linux")]
mod firewall;
#[cfg(target_os = "linux")]
mod links;
#[cfg(target_os = "linux")]
mod router;

/// Runs a test on a thread in a network namespace of its own, inside a runtime.
#[cfg(target_os = "linux")]
fn in_namespace(name: &str, test: impl AsyncFnOnce() + Send + 'static) {
    let name = name.to_owned();
    let thread = std::thread::spawn(move || {
        if let Err(error) = sys::namespace::enter_new_network() {
            testkit::originals::skip(
                &name,
                &format!("only root can make network namespaces ({error})"),
            );
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a program in the namespace of the calling thread, which must succeed; what it prints.
#[cfg(target_os = "linux")]
fn run(line: &str) -> String {
    let output = try_run(line);
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The same, whatever comes of it.
#[expect(
    clippy::disallowed_methods,
    reason = "it runs the tools that people use"
)]
#[cfg(target_os = "linux")]
fn try_run(line: &str) -> std::process::Output {
    let mut words = line.split(' ');
    let program = words.next().unwrap();
    std::process::Command::new(program)
        .args(words)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap_or_else(|error| {
            panic!("{program}: {error}; install iproute2, iptables and nftables")
        })
}
