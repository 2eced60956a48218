//! A process alone with its clocks, for only one with a single thread can have their time jump: no test harness here.

use std::time::Duration;

fn main() {
    #[cfg(target_os = "linux")]
    time_that_the_machine_sleeps_counts();
}

/// In a namespace whose clock of time since boot is an hour ahead, as after an hour's sleep: the clock that stands still meanwhile is not.
#[cfg(target_os = "linux")]
fn time_that_the_machine_sleeps_counts() {
    const SLEEP: Duration = Duration::from_secs(3600);
    let before = rt::now();
    if let Err(error) = sys::namespace::unshare_time() {
        return testkit::originals::skip(
            "suspend",
            &format!("only root can make namespaces of clocks: {error}"),
        );
    }
    let offset = format!("boottime {} 0\n", SLEEP.as_secs());
    std::fs::write("/proc/self/timens_offsets", offset).expect("set the clock of the children");
    sys::namespace::enter_time_of_children().expect("be in their time");
    let slept = rt::now().since(before);
    assert!(
        slept >= SLEEP,
        "after a sleep of {SLEEP:?} the clock says {slept:?}"
    );
    println!("time that the machine sleeps counts: ok");
}
