//! Network devices and what carries the network over them.

pub mod master;
pub mod pci;
pub mod routes;
