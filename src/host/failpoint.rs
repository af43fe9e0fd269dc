//! Instants at which dying is dangerous. In a build with the feature `failpoints`, `VFGUARD_FAILPOINT=NAME` has the process
//! killed there, as a power cut would; in any other build this is nothing.

/// The dangerous instant `name`.
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) {
    if std::env::var("VFGUARD_FAILPOINT").is_ok_and(|wanted| wanted == name) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    }
}

/// The dangerous instant `name`.
#[cfg(not(feature = "failpoints"))]
pub fn hit(_name: &str) {}
