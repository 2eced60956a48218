//! From the tailnet and the user's wishes to configuration: pure functions, one file per target.

pub(crate) mod dns;
pub(crate) mod filter;
pub(crate) mod hostinfo;
pub(crate) mod peers;
pub(crate) mod router;
pub(crate) mod routes;
