//! A userspace TCP/IP endpoint set, polled like every other machine.
