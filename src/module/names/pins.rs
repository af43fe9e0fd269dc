//! What gives an interface its name whatever the words of the command line say: a rule of udev or a `.link` file that finds the card by
//! its address, its place or the name that the kernel gave it, and EL's helper that renames by `HWADDR`.

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
/// The rules that take a `.link` file's name, of which a link to /dev/null lets none count.
const SETUP: &str = "/etc/udev/rules.d/80-net-setup-link.rules";

/// Whether the interface gets its name so.
pub(super) fn pinned(card: &Card) -> bool {
    let linked = || !masked(card.host, SETUP) && link::given(card) == Given::Own;
    rules::name(card) || linked() || card.mac.as_deref().is_some_and(|mac| by_helper(card.host, card.interface, mac))
}

/// Whether a file is taken away by a link to /dev/null.
pub(super) fn masked(host: &Host, file: &str) -> bool {
    host.read_link(file).is_ok_and(|to| to == Path::new("/dev/null"))
}

/// `HWADDR=` of an ifcfg file, where the helper is that gives the card `DEVICE=`.
fn by_helper(host: &Host, interface: &str, mac: &str) -> bool {
    let named = |file: &Path| {
        let text = host.read_text(file).unwrap_or_default();
        let (device, address) = (assigned(&text, "DEVICE"), assigned(&text, "HWADDR"));
        device.as_deref() == Some(interface) && address.is_some_and(|a| a.eq_ignore_ascii_case(mac))
    };
    RENAMES.iter().any(|f| host.is_file(f)) && ifcfg(host).iter().any(|f| named(f))
}
