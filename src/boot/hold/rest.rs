//! A rest after a hold that was written, did not take and was undone. The watch sees such writes and would start the next try at once and
//! without end. What a hold is worked out from has to change before it is tried again, or half an hour to pass. A hold that is refused in
//! memory writes nothing, and needs no rest.

use crate::boot::loader::Asked;
use crate::boot::ready;
use crate::error::advise;
use crate::host::Host;
use crate::kernel::KernelRelease;
use anyhow::Error;
use std::time::Duration;

/// Below the root: the digest of what it was worked out from, the message and the remedy, a line each.
const FILE: &str = "/run/vfguard/hold-failed";
/// What a loader's own tools make its configuration of.
const SETTINGS: [&str; 3] = ["/etc/default/grub", "/etc/default/grub.d", "/etc/grub.d"];
const REST: Duration = Duration::from_secs(30 * 60);

/// A hold on `to` has failed now. Where that cannot be written down (a full /run), there is no rest.
pub(in crate::boot) fn begin(host: &Host, asked: &Asked, to: &KernelRelease, error: &Error) {
    let line = |text: String| text.replace('\n', " ");
    let (message, remedy) = (format!("{error:#}"), crate::error::remedy(error).unwrap_or_default().to_owned());
    let text = format!("{}\n{}\n{}\n", seal(host, asked, to), line(message), line(remedy));
    let _ = host.write_atomic(FILE, text.as_bytes(), 0o644);
}

/// Why a hold on `to` is not tried now, if so: what it came to the last time.
pub(in crate::boot) fn is_on(host: &Host, asked: &Asked, to: &KernelRelease) -> Option<Error> {
    let text = host.read_text(FILE).ok()?;
    // A clock that was set back ends the rest.
    let age = host.metadata(FILE).and_then(|m| m.modified()).ok()?.elapsed().ok()?;
    let mut lines = text.lines();
    (age < REST && lines.next()? == seal(host, asked, to)).then_some(())?;
    Some(advise(format!("{} (tried once, and not again until something changes)", lines.next()?), lines.next()?))
}

/// A hold is on.
pub(super) fn end(host: &Host) {
    let _ = host.remove(FILE);
}

fn seal(host: &Host, asked: &Asked, to: &KernelRelease) -> String {
    let mut inputs = ready::inputs(host, asked, None, to);
    SETTINGS.iter().for_each(|path| inputs.extend(host.identity(path).unwrap_or_default().into_bytes()));
    let digest = ring::digest::digest(&ring::digest::SHA256, &inputs);
    digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
