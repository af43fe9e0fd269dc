//! The partition from which a file is loaded, if the script itself names it. The other slot of an A/B system (RAUC, Mender) has a kernel
//! under the same path, which is not the one that is visible here.

use crate::boot::grub2::script::eval::Machine;
use std::path::Path;

impl Machine<'_> {
    /// The device of a file, if it is a numbered partition that this system does not use: `(hd0,gpt3)`. A device that `search` finds has no
    /// number.
    pub(in crate::boot::grub2::script) fn elsewhere(&self, spec: &str) -> Option<String> {
        let device = match spec.strip_prefix('(') {
            Some(rest) => rest.split(')').next()?,
            None => self.get("root")?.trim_matches(['(', ')']),
        };
        let number = device.split_once(',')?.1.trim_start_matches("gpt").trim_start_matches("msdos");
        let number: u32 = number.parse().ok()?;
        let mounts = self.world.host.read_text("/proc/mounts").ok()?;
        let lines = mounts.lines().filter_map(|line| line.split_once(' '));
        let own = lines
            .filter(|(_, rest)| ["/", "/boot", "/boot/efi", "/efi"].contains(&rest.split(' ').next().unwrap_or_default()));
        let numbers: Vec<u32> = own.filter_map(|(device, _)| partition(device)).collect();
        (!numbers.is_empty() && !numbers.contains(&number)).then(|| format!("({device})"))
    }
}

/// The number in a partition's name: `/dev/sda2`, `/dev/nvme0n1p2`. None for a whole disk, or for a device on top of partitions.
fn partition(device: &str) -> Option<u32> {
    let name = Path::new(device.strip_prefix("/dev/")?).to_str()?;
    let start = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let disk = ["sd", "vd", "xvd", "hd"].iter().any(|kind| name.starts_with(kind));
    let numbered = start.strip_suffix('p').is_some_and(|disk| disk.ends_with(|c: char| c.is_ascii_digit()));
    (disk || numbered).then(|| name[start.len()..].parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_numbered_by_its_name() {
        for (device, number) in [
            ("/dev/sda2", Some(2)),
            ("/dev/xvda1", Some(1)),
            ("/dev/nvme0n1p12", Some(12)),
            ("/dev/mmcblk0p3", Some(3)),
            ("/dev/xvda", None),
            ("/dev/nvme0n1", None),
            ("/dev/mapper/rl-root", None),
            ("/dev/md0", None),
            ("/dev/dm-3", None),
            ("overlay", None),
        ] {
            assert_eq!(partition(device), number, "{device}");
        }
    }
}
