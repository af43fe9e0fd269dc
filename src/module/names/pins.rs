//! Whether an interface gets its name regardless of the command line: by a rule of udev or a `.link` file that identifies the card by its
//! address, its place or the name that the kernel gave it, or by EL's helper that renames by `HWADDR`.

use super::card::Card;
use super::link::{self, Given};
use super::rules;
use super::settings::{assigned, ifcfg};
use crate::host::Host;
use std::path::Path;

/// EL's helper, and the rule that calls it.
const RENAMES: [&str; 4] = [
    "/usr/lib/udev/rules.d/60-net.rules",
    "/lib/udev/rules.d/60-net.rules",
    "/usr/lib/udev/rename_device",
    "/lib/udev/rename_device",
];
/// The rules that apply a `.link` file's name; a link to /dev/null disables them.
const SETUP: &str = "/etc/udev/rules.d/80-net-setup-link.rules";

/// Whether the interface gets its name in one of these ways.
pub(super) fn pinned(card: &Card) -> bool {
    let linked = || !masked(card.host, SETUP) && link::given(card) == Given::Own;
    rules::name(card) || linked() || card.mac.as_deref().is_some_and(|mac| by_helper(card.host, card.interface, mac))
}

/// Whether a file is masked by a link to /dev/null.
pub(super) fn masked(host: &Host, file: &str) -> bool {
    host.read_link(file).is_ok_and(|to| to == Path::new("/dev/null"))
}

/// Whether an ifcfg file has this card's `HWADDR=` and this `DEVICE=`, and the helper that applies it is installed.
fn by_helper(host: &Host, interface: &str, mac: &str) -> bool {
    let named = |file: &Path| {
        let text = host.read_text(file).unwrap_or_default();
        let (device, address) = (assigned(&text, "DEVICE"), assigned(&text, "HWADDR"));
        device.as_deref() == Some(interface) && address.is_some_and(|a| a.eq_ignore_ascii_case(mac))
    };
    RENAMES.iter().any(|f| host.is_file(f)) && ifcfg(host).iter().any(|f| named(f))
}
