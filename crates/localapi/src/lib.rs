//! The local HTTP API: routes, request types, permissions, client, server plumbing.
