mod device;
mod direct;
mod tunnels;
mod world;
