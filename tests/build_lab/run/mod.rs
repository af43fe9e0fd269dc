//! Whole runs under disturbances: kills, faults, a terminal that goes away, other runs.

mod crash;
mod faults;
mod hangup;
mod surroundings;
