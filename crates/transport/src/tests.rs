mod net;
mod pure;
