//! Go's command-line flag syntax, as data: names, kinds, defaults, usage text and exit codes.
