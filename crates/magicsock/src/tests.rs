mod direct;
mod disco;
mod home;
mod links;
mod net;
mod simulation;
mod tables;
mod world;
