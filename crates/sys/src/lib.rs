//! The only unsafe code, speaking byte slices and file descriptors.
