//! What must be true of our daemon on a machine: one test for each scenario.

use interop::host::{ALL, Scenario, Verdict};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let trials = ALL
        .iter()
        .map(|scenario| Trial::test(scenario.name, || test(scenario)));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn test(scenario: &Scenario) -> Result<(), Failed> {
    if !rustix::process::geteuid().is_root() {
        testkit::originals::skip(scenario.name, "only root can make network namespaces");
        return Ok(());
    }
    match scenario.play_ours() {
        Verdict::Pass(_) => Ok(()),
        Verdict::Fail(error) => Err(error.into()),
        Verdict::Skip(reason) => {
            testkit::originals::skip(scenario.name, &reason);
            Ok(())
        }
    }
}
