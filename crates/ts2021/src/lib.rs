//! The control transport as a machine: Noise handshake and records both ways, early payload, map framing.
