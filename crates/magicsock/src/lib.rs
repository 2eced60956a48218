//! Chooses the path to each peer: disco over the relay, home DERP, reverse routes, pings.
