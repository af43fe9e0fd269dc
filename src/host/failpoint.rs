//! Instants at which dying is dangerous. In a build with the feature `failpoints`, `VFGUARD_FAILPOINT=NAME` has the process
//! killed there, as a power cut would, or has it wait for a test to do so; in any other build this is nothing.

/// The dangerous instant `name`.
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) {
    if is_wanted(name) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    }
}

/// The dangerous instant `name`.
#[cfg(not(feature = "failpoints"))]
pub fn hit(_name: &str) {}

/// Whether a test wants the dangerous instant `name`: for code that may not look into its environment when it comes there.
#[cfg(feature = "failpoints")]
pub fn is_wanted(name: &str) -> bool {
    std::env::var("VFGUARD_FAILPOINT").is_ok_and(|wanted| wanted == name)
}

/// Whether a test wants the dangerous instant `name`.
#[cfg(not(feature = "failpoints"))]
pub fn is_wanted(_name: &str) -> bool {
    false
}
