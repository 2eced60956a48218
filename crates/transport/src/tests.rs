mod either;
mod kept;
mod net;
mod pure;
