//! A rest after a hold that was written, had no effect and was undone. The watch on the loader's files sees such writes and would start the
//! next try at once, in an endless loop. The hold is tried again only if its inputs have changed or half an hour has passed. A hold that is
//! refused in memory writes nothing and needs no rest.

use crate::boot::loader::Asked;
use crate::boot::ready;
use crate::error::advise;
use crate::host::Host;
use crate::kernel::KernelRelease;
use anyhow::Error;
use std::time::Duration;

/// Below the root: the digest of the hold's inputs, the message and the remedy, one per line.
const FILE: &str = "/run/vfguard/hold-failed";
/// The files from which a loader's own tools generate its configuration.
const SETTINGS: [&str; 3] = ["/etc/default/grub", "/etc/default/grub.d", "/etc/grub.d"];
const REST: Duration = Duration::from_secs(30 * 60);

/// Starts the rest: a hold on `to` has failed now. If this cannot be recorded (a full /run), there is no rest.
pub(in crate::boot) fn begin(host: &Host, asked: &Asked, to: &KernelRelease, error: &Error) {
    let line = |text: String| text.replace('\n', " ");
    let (message, remedy) = (format!("{error:#}"), crate::error::remedy(error).unwrap_or_default().to_owned());
    let text = format!("{}\n{}\n{}\n", seal(host, asked, to), line(message), line(remedy));
    let _ = host.write_atomic(FILE, text.as_bytes(), 0o644);
}

/// The error of the last try, if a hold on `to` is not to be tried now.
pub(in crate::boot) fn is_on(host: &Host, asked: &Asked, to: &KernelRelease) -> Option<Error> {
    let text = host.read_text(FILE).ok()?;
    // A clock that was set back ends the rest.
    let age = host.metadata(FILE).and_then(|m| m.modified()).ok()?.elapsed().ok()?;
    let mut lines = text.lines();
    (age < REST && lines.next()? == seal(host, asked, to)).then_some(())?;
    Some(advise(format!("{} (tried once, and not again until something changes)", lines.next()?), lines.next()?))
}

/// Ends the rest: a hold is on.
pub(super) fn end(host: &Host) {
    let _ = host.remove(FILE);
}

fn seal(host: &Host, asked: &Asked, to: &KernelRelease) -> String {
    let mut inputs = ready::inputs(host, asked, None, to);
    SETTINGS.iter().for_each(|path| inputs.extend(host.identity(path).unwrap_or_default().into_bytes()));
    let digest = ring::digest::digest(&ring::digest::SHA256, &inputs);
    digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
