//! Async streams over the flows of the engine's TCP/IP stack.
//!
//! The stack belongs to the engine's thread, the streams to tasks. Between them stand bounded buffers, one pair per flow,
//! and a list of the flows whose task did something. The engine calls [`FlowHub::turn`] once per round: it carries bytes
//! both ways and wakes the tasks that wait. A task wakes the engine only when it turns an empty buffer into a filled one, or
//! makes room in a full one.

mod dial;
mod hub;
mod queue;
mod tcp;
mod udp;

pub use dial::{Dialer, Incoming, IncomingFlows, IncomingTcp, IncomingUdp};
pub use hub::FlowHub;
pub use tcp::TcpStream;
pub use udp::UdpFlow;

#[cfg(test)]
mod tests;
