//! The control protocol's JSON exactly as on the wire, and nothing else.
