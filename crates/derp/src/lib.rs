//! DERP frames, the client and server handshakes as byte-in/byte-out machines, and the domain DerpMap.
