//! A whole tailnet on one machine in one command.

fn main() {}
