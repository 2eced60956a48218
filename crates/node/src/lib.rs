//! Puts one node together and runs it, given the host traits.
