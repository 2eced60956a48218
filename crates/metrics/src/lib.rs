//! Counters and gauges as atomics, their user and client names, text encodings.
