mod kept;
mod net;
mod pure;
