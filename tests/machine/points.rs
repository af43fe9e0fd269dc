//! The dangerous instants at which runs overtake each other: tests/live/hooks/schedules.rs pauses and kills at them,
//! tests/live/hooks/interleavings.rs plays single cases.

/// Those that no random schedule reaches.
pub const ALONE: [&str; 1] = ["reboot-before-request"];

pub const BETWEEN: [&str; 13] = [
    "raised-before-judged",
    "judged-before-refused",
    "judged-before-decided",
    "unsafe-before-held",
    "safe-before-promoted",
    "promoted-before-open",
    "held-before-declined",
    "write-lock-before-taken",
    "write-lock-taken",
    "boot-lock-before-taken",
    "boot-lock-taken",
    "gate-lock-before-taken",
    "gate-lock-taken",
];
