//! The gate on upstart (EL6): wrappers around reboot, shutdown and telinit (packaging/el6) refuse if a state file says so,
//! and Ctrl-Alt-Del is disabled. `init 6` is not refused: /sbin/init is never touched.
//!
//! Derived from upstart 0.6.5's reboot(8), shutdown(8), telinit(8) and init(5). The tests run on directories.

use super::systemd::Files;
use crate::gate::Reason;
use crate::host::upstart::unwrapped;
use crate::host::Host;
use crate::text::Text;
use anyhow::Result;

/// The file that the wrappers read: the boot for which it is valid, whether poweroff is refused too, then the text that they
/// print.
const STATE: &str = "/run/vfguard/reboot-refused";
/// Replaces the action of Ctrl-Alt-Del (init(5), "Override files").
const CTRL_ALT_DEL: &str = "/etc/init/control-alt-delete.override";
/// The first line of vfguard's own files in /etc/init.
const MARK: &str = "# vfguard";

fn boot_id(host: &Host) -> String {
    host.read_text("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Checks the files; with `poweroff`, poweroff must be refused too.
pub fn look(host: &Host, poweroff: bool) -> Files {
    let state = host.read_text(STATE).unwrap_or_default();
    let mut lines = state.lines();
    let current = lines.next().is_some_and(|boot| boot == boot_id(host));
    let off = lines.next() == Some("poweroff=yes");
    let disabled = host.exists(CTRL_ALT_DEL);
    if current && disabled && (off || !poweroff) && unwrapped(host).is_empty() {
        Files::All
    } else if !state.is_empty() || ours(host) {
        Files::Some
    } else {
        Files::None
    }
}

fn ours(host: &Host) -> bool {
    host.read_text(CTRL_ALT_DEL).is_ok_and(|t| t.starts_with(MARK))
}

/// Writes the files that refuse. An override of Ctrl-Alt-Del by somebody else stays.
///
/// # Errors
/// Those of writing.
pub fn write(host: &Host, poweroff: bool, reasons: &[Reason]) -> Result<()> {
    let off = if poweroff { "yes" } else { "no" };
    let mut text = Text::of(&boot_id(host));
    text.line(&format!("poweroff={off}"));
    text.line("vfguard refuses to reboot this machine: it might come up without its network.");
    for reason in reasons {
        text.line(&format!("  {}", reason.line()));
        text.line(&format!("    to mend it: {}", reason.remedy));
    }
    text.line("  More: vfguard status. To reboot all the same: vfguard gate open --reason TEXT, or --force");
    host.write_atomic(STATE, text.as_str().as_bytes(), 0o644)?;
    if host.exists(CTRL_ALT_DEL) {
        return Ok(());
    }
    let disabled = format!(
        "{MARK} refuses the reboot; why, and what mends it: vfguard status\n\
         exec /usr/bin/logger -p authpriv.notice -t vfguard \"Ctrl-Alt-Del is refused: see vfguard status\"\n"
    );
    host.write_atomic(CTRL_ALT_DEL, disabled.as_bytes(), 0o644)
}

/// Removes all files that refuse.
///
/// # Errors
/// Those of removing.
pub fn remove(host: &Host) -> Result<()> {
    host.remove(STATE)?;
    if ours(host) {
        host.remove(CTRL_ALT_DEL)?;
    }
    Ok(())
}
