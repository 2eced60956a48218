//! The brain: profiles, login state, and the rules that turn events into effects.
