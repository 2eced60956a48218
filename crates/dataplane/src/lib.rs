//! Moves packets: the path loop, DERP links, netstack driving; offers async streams over it.
