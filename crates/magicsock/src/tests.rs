mod disco;
mod home;
mod links;
mod world;
