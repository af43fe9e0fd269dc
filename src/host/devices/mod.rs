//! Network devices, and the masters and routes that use them.

pub mod master;
pub mod pci;
pub mod routes;
