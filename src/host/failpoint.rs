//! Points in the code at which being killed, or overtaken by another run, is dangerous. In a build with the feature
//! `failpoints` the environment says what happens there; in other builds they do nothing.
//!
//! - `VFGUARD_FAILPOINT=NAME`: the process is killed there, as by a power cut.
//! - `VFGUARD_PAUSE=NAME[,NAME…]` with `VFGUARD_PAUSE_DIR=DIR`: it creates `DIR/NAME.reached` and waits for `DIR/NAME.go`.
//! - `VFGUARD_SCHEDULE=SEED`: at each point it goes on, sleeps a moment or, with an odd seed, is killed, depending on the
//!   seed and the number of the point; `VFGUARD_SCHEDULE_LOG=FILE` gets a line for each point.

/// The dangerous point `name`.
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) {
    if is_wanted(name) {
        steps::kill();
    }
    steps::pause(name);
    steps::schedule(name);
}

/// The dangerous point `name`.
#[cfg(not(feature = "failpoints"))]
pub fn hit(_name: &str) {}

/// Whether a test asked for the point `name`; for code that must not read its environment when it gets there.
#[cfg(feature = "failpoints")]
pub fn is_wanted(name: &str) -> bool {
    std::env::var("VFGUARD_FAILPOINT").is_ok_and(|wanted| wanted == name)
}

/// Whether a test asked for the point `name`.
#[cfg(not(feature = "failpoints"))]
pub fn is_wanted(_name: &str) -> bool {
    false
}

#[cfg(feature = "failpoints")]
mod steps {
    use nix::sys::signal::{kill as send, Signal};
    use nix::unistd::Pid;
    use std::env;
    use std::fs::{self, File};
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    /// A test that never creates the `.go` file fails instead of hanging.
    const PATIENCE: Duration = Duration::from_secs(60);
    const LOOK: Duration = Duration::from_millis(2);
    /// A schedule with an odd seed kills at one in so many points.
    const KILLS: u64 = 24;

    pub fn kill() {
        let _ = send(Pid::this(), Signal::SIGKILL);
    }

    pub fn pause(name: &str) {
        if !env::var("VFGUARD_PAUSE").is_ok_and(|names| names.split(',').any(|n| n == name)) {
            return;
        }
        let dir = PathBuf::from(env::var_os("VFGUARD_PAUSE_DIR").unwrap_or_default());
        let (reached, go) = (dir.join(format!("{name}.reached")), dir.join(format!("{name}.go")));
        let made = fs::write(&reached, "");
        let start = Instant::now();
        while !go.exists() {
            if made.is_err() || start.elapsed() > PATIENCE {
                crate::print::note(&format!("paused at {name}: no {}", go.display()));
                std::process::abort();
            }
            sleep(LOOK);
        }
    }

    pub fn schedule(name: &str) {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let Some(seed) = env::var("VFGUARD_SCHEDULE").ok().and_then(|s| s.parse::<u64>().ok()) else { return };
        let drawn = mixed(seed.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        let dies = seed % 2 == 1 && drawn.is_multiple_of(KILLS);
        // One in two sleeps, for up to 3 ms.
        let nap = Duration::from_micros(if drawn >> 63 == 1 { (drawn >> 32) % 3000 } else { 0 });
        if let Some(log) = env::var_os("VFGUARD_SCHEDULE_LOG") {
            let what = if dies { "killed".to_owned() } else { format!("{} us", nap.as_micros()) };
            let line = format!("{} {name}: {what}\n", std::process::id());
            let _ = File::options().append(true).create(true).open(log).and_then(|mut f| f.write_all(line.as_bytes()));
        }
        if dies {
            kill();
        }
        sleep(nap);
    }

    /// The last step of splitmix64.
    fn mixed(mut x: u64) -> u64 {
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }
}
