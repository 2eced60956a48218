mod direct;
mod tunnels;
mod world;
