//! Uploads logs to TS_LOG_TARGET, and to nowhere else.
