mod tunnels;
mod world;
