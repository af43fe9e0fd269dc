//! How long a download may take.

use super::network::{self, Network};
use crate::config::Fetch;
use std::time::Duration;

/// How long a server may take for what; the settings give one attempt's length, the rest follows from it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// To reach it.
    pub connect: Duration,
    /// To answer, and between two pieces of the body.
    pub stall: Duration,
    /// For one attempt altogether.
    pub overall: Duration,
    /// The first wait before trying again; doubled each time.
    pub backoff: Duration,
    /// The longest wait before trying again, also when `Retry-After` asks for more.
    pub longest_wait: Duration,
    /// For a network that is not up yet.
    pub network: &'static Network,
}

impl Limits {
    /// The limits of a configuration.
    pub fn of(config: &Fetch) -> Limits {
        let overall = Duration::from_secs(config.timeout);
        Limits {
            connect: overall.min(Duration::from_secs(10)),
            stall: overall.min(Duration::from_secs(20)),
            overall,
            backoff: Duration::from_secs(1),
            longest_wait: Duration::from_secs(30),
            network: &network::NETWORK,
        }
    }
}
