//! Unpacks packages of headers below a scratch root: the package manager's own tools do it as the build user in the sandbox.
//! Then root copies what headers consist of, as plain files of its own that the build can only read.
//!
//! The tools can write only in the build directory, so an absolute name, a `..` or a symbolic link in a package cannot reach
//! anything else. The tools strip such names and go on; vfguard refuses the package.

mod taken;

use self::taken::Taken;
use super::prepare::Work;
use super::sandbox::{self, run::Ended, run::Stop, Sandbox, PACKAGE};
use crate::config::Build;
use crate::error::advise;
use crate::host::command::{self, Spec};
use crate::host::Host;
use crate::packages::{Headers, Packages};
use anyhow::{Context, Result};
use nix::errno::Errno;
use std::fs::{self};
use std::io::{self};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// Time limit for unpacking one package.
const UNPACK: Duration = Duration::from_secs(300);
/// How much of the tools' output is kept, for one line of an error.
const MAX_SAID: usize = 16 << 10;

/// Unpacks headers below the root of `stage`.
///
/// # Errors
/// When a package cannot be unpacked, or contains something that headers do not; it is refused then, with the reason.
pub fn unpack(stage: &Host, config: &Build, headers: &Headers) -> Result<()> {
    let work = Work::new(stage)?;
    let mut taken = Taken::default();
    for (n, file) in headers.files()?.into_iter().enumerate() {
        let work = work.0.join(n.to_string());
        fs::create_dir(&work).with_context(|| format!("making {}", work.display()))?;
        fs::set_permissions(&work, fs::Permissions::from_mode(0o711))?;
        // The build user may read this copy; only root may write it.
        let package = work.join(PACKAGE);
        fs::copy(&file, &package).with_context(|| format!("copying {}", file.display()))?;
        fs::set_permissions(&package, fs::Permissions::from_mode(0o644))?;
        let one = sandbox::apart(|apart| {
            let mut sandbox = Sandbox::for_package(stage, config, &work)?;
            sandbox.bound_disk(apart);
            sandbox.hand_over()?;
            run(&mut sandbox, headers)?;
            taken.all(&sandbox.build_dir(), stage.root()).map_err(|e| match e.root_cause() {
                // A problem of this machine, most likely no free space.
                cause if cause.is::<io::Error>() || cause.is::<Errno>() => e.context("taking over unpacked headers"),
                _ => refuse(&format!("{e:#}")),
            })
        });
        one.context("starting a thread that unpacks headers")??;
    }
    taken.link(stage)
}

fn refuse(why: &str) -> anyhow::Error {
    advise(
        format!("a downloaded package of headers is refused: {why}"),
        "do not install it, and tell who runs the repository; `vfguard rehearse KERNEL` takes a kernel whose headers are installed",
    )
}

/// Runs the tools until they end.
fn run(sandbox: &mut Sandbox, headers: &Headers) -> Result<()> {
    let dir = sandbox.build_dir();
    let mut said = Vec::new();
    let mut hear = |bytes: &[u8]| {
        let room = MAX_SAID.saturating_sub(said.len());
        said.extend_from_slice(&bytes[..bytes.len().min(room)]);
    };
    // A relative path, which is right whether or not the sandbox has a root of its own; that is known only once it runs.
    let package = format!("../{PACKAGE}");
    let spec = match headers.packages() {
        Packages::Apt => Spec::new("dpkg-deb", ["-x", &package, "."], UNPACK),
        Packages::Dnf | Packages::Yum => {
            if let Some(program) = ["rpm2cpio", "cpio"].into_iter().find(|program| command::find(program).is_none()) {
                return Err(advise(format!("headers cannot be unpacked without {program}"), "dnf install rpm cpio"));
            }
            // cpio creates symbolic links and writes through them, so without Landlock it must not run as the caller's own
            // user. Whether there are namespaces is known only once the sandbox runs.
            let own = sandbox.user().is_none() && sandbox.containment().landlock.is_none();
            if own && !headers.are_signed() {
                return Err(advise(
                    "the package of headers is not signed, and without Landlock it is not unpacked as an ordinary user",
                    "run it as root",
                ));
            }
            // A truncated stream has no end marker, which cpio reports.
            let line = "rpm2cpio \"$0\" | cpio -idm --quiet --no-absolute-filenames --no-preserve-owner";
            Spec::new("sh", ["-c", line, &package], UNPACK)
        }
    };
    let ended = sandbox.run(&spec, &dir, &mut hear)?;
    let said = String::from_utf8_lossy(&said);
    if !ended.success() {
        return Err(refuse(&format!("it cannot be unpacked: {}", why(ended, &said))));
    }
    // Both tools report the first name from which they stripped something.
    match said.lines().find(|l| l.contains("Removing leading")) {
        Some(line) => Err(refuse(&format!("it has names that lead out of its directory ({})", line.trim()))),
        None => Ok(()),
    }
}

fn why(ended: Ended, said: &str) -> String {
    match ended.stopped {
        Some(Stop::Time) => format!("it takes more than {} s", UNPACK.as_secs()),
        Some(Stop::Disk | Stop::TooLarge) => "it takes too much of the disk".to_owned(),
        Some(Stop::Memory) => "it takes too much memory".to_owned(),
        None => {
            said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("a file is larger than those of headers").to_owned()
        }
    }
}
