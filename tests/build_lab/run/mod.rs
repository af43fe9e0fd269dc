//! Whole runs beside what may go wrong: kills, faults, a terminal that goes away, other runs.

mod crash;
mod faults;
mod hangup;
mod surroundings;
