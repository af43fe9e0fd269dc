//! How long a download may take.

use super::network::{self, Network};
use crate::config::Fetch;
use std::time::Duration;

/// Time limits of a download. The configuration sets the length of one attempt; the other limits follow from it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// To connect.
    pub connect: Duration,
    /// To answer, and between two parts of the body.
    pub stall: Duration,
    /// For one whole attempt.
    pub overall: Duration,
    /// The first wait before another attempt. It doubles each time.
    pub backoff: Duration,
    /// The longest wait before another attempt, even if `Retry-After` asks for more.
    pub longest_wait: Duration,
    /// To wait for a network that is not up yet.
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
