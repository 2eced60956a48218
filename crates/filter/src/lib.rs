//! Compiles filter rules and judges packets, with return-flow tracking.
