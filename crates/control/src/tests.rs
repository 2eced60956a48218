mod fake;
mod hostile;
mod pure;
mod talk;
