//! The known facts about a network interface, and whether a condition of udev or of a `.link` file matches it.

use crate::host::devices::pci::Device;
use crate::host::Host;
use crate::module::fits;

/// Whether a condition matches. For all of several conditions it is their minimum, for any of them the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    No,
    /// The condition is not understood, or the fact that it asks for is unknown.
    May,
    Yes,
}

impl From<bool> for Fit {
    fn from(fits: bool) -> Fit {
        if fits {
            Fit::Yes
        } else {
            Fit::No
        }
    }
}

impl std::ops::Not for Fit {
    type Output = Fit;

    fn not(self) -> Fit {
        match self {
            Fit::No => Fit::Yes,
            Fit::May => Fit::May,
            Fit::Yes => Fit::No,
        }
    }
}

/// An interface with its present name.
pub(super) struct Card<'a> {
    pub host: &'a Host,
    pub device: &'a Device,
    pub interface: &'a str,
    /// Its address, in lower case.
    pub mac: Option<String>,
    /// Whether K's driver is the one that is bound now.
    same_driver: bool,
}

impl<'a> Card<'a> {
    /// `driver` is the name of K's driver for it.
    pub fn new(host: &'a Host, device: &'a Device, interface: &'a str, driver: &str) -> Card<'a> {
        let same = |name: &str| name.replace('-', "_") == driver.replace('-', "_");
        let same_driver = [&device.driver, &device.module].into_iter().flatten().any(|name| same(name));
        let mut card = Card { host, device, interface, mac: None, same_driver };
        card.mac = card.attribute("address").map(|m| m.to_ascii_lowercase()).filter(|m| !m.is_empty());
        card
    }

    /// An attribute of the interface. None if the device is gone, since another interface may have its name.
    pub fn attribute(&self, name: &str) -> Option<String> {
        if !self.device.present {
            return None;
        }
        let (interface, address) = (self.interface, &self.device.address);
        [format!("/sys/class/net/{interface}/{name}"), format!("/sys/bus/pci/devices/{address}/net/{interface}/{name}")]
            .iter()
            .find_map(|path| self.host.read_text(path).ok())
            .map(|text| text.trim().to_owned())
    }

    /// Matches the name that the kernel gives, one in the order of discovery. It is unknown if the interface was renamed.
    pub fn kernel_name(&self, pattern: &str) -> Fit {
        let number = self.interface.strip_prefix("eth").filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        if number.is_some() {
            return fits(pattern, self.interface).into();
        }
        match () {
            () if ["eth0", "eth9", "eth10"].iter().all(|name| fits(pattern, name)) => Fit::Yes,
            () if fits(pattern, self.interface) => Fit::May,
            // The literal part of a pattern ends at the first special character.
            () => {
                let written = &pattern[..pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len())];
                if written.starts_with("eth") || (written.len() < pattern.len() && "eth".starts_with(written)) {
                    Fit::May
                } else {
                    Fit::No
                }
            }
        }
    }

    /// Matches udev's `ID_PATH`, which may begin with the parent of the card's own bus.
    pub fn path(&self, pattern: &str) -> Fit {
        match () {
            () if fits(pattern, &format!("pci-{}", self.device.address)) => Fit::Yes,
            () if pattern.starts_with("pci-") || pattern.contains("-usb-") => Fit::No,
            () => Fit::May,
        }
    }

    /// Matches the name of the driver in K.
    pub fn driver(&self, pattern: &str) -> Fit {
        match &self.device.driver {
            _ if ["*", "?*"].contains(&pattern) => Fit::Yes,
            Some(driver) if self.same_driver => fits(pattern, driver).into(),
            _ => Fit::May,
        }
    }

    /// Whether it is a plain Ethernet card.
    pub fn is_ethernet(&self) -> bool {
        self.device.class >> 8 == 0x0200
    }
}
