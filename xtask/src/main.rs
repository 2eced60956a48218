//! Developer tasks: tidy, lab, fuzz, chaos.

fn main() {}
