//! Every tailscale subcommand, as data plus a function that talks LocalAPI.
