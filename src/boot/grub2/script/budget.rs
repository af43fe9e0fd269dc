//! The memory limit of one simulation. A limit on steps is not enough: a value of 64 KiB is set in 16 bytes, and one command may use it a
//! hundred thousand times.

use super::eval::{Machine, State, Stop};
use crate::boot::grub2::ITEM;

/// Bytes of text read, words, values, and copies of them; nothing is given back. A grub.cfg of 10,000 entries takes 99 MB of it, one of 400
/// entries 4 MB, and 6 MB if each of them is followed.
const MAX: usize = 128 << 20;
/// The charge for reading a file or a directory, however small it is: no configuration reads a hundred.
pub(in crate::boot::grub2::script) const READ: usize = 128 << 10;

/// The memory left to one simulation.
#[derive(Debug)]
pub struct Budget {
    left: usize,
    over: bool,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { left: MAX, over: false }
    }
}

impl Budget {
    /// Charges this much and returns whether it was available. Once it was not, every later call fails too.
    pub fn spend(&mut self, bytes: usize) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => (self.left, self.over) = (0, true),
        }
        !self.over
    }

    /// The memory left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Whether the limit was exceeded: the simulation since then does not show what GRUB does.
    pub fn is_over(&self) -> bool {
        self.over
    }
}

impl State {
    /// The memory of a copy.
    pub(in crate::boot::grub2::script) fn size(&self) -> usize {
        let variables = self.contexts.iter().flatten().map(|(name, (value, _))| name.len() + value.len() + ITEM);
        let env = self.env.values().flatten().map(|(name, value)| name.len() + value.len() + ITEM);
        variables.chain(env).sum()
    }
}

impl Machine<'_> {
    /// Charges this much to the simulation; if it is not available, the next step ends the simulation.
    pub(in crate::boot::grub2::script) fn spend(&mut self, bytes: usize) {
        self.budget.spend(bytes);
    }

    /// Ends a simulation that exceeded its limit.
    pub(in crate::boot::grub2::script) fn within_budget(&self) -> Result<(), Stop> {
        if self.budget.is_over() {
            return Err(Stop::Dead(format!("to follow the configuration up to here takes more than {} MiB", MAX >> 20)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::grub2::bls::dialect::Dialect;
    use crate::boot::grub2::script::eval::EnvFiles;
    use crate::boot::grub2::script::world::{Flavor, Planned, World};
    use crate::host::Host;
    use std::path::Path;

    /// Entries as Debian's grub-mkconfig writes them.
    fn config(entries: usize) -> String {
        let entry = |i: usize| {
            format!(
                "menuentry 'Debian GNU/Linux, with Linux 6.1.0-{i}-amd64' --class debian --class gnu-linux --class gnu --class os \
                 $menuentry_id_option 'gnulinux-6.1.0-{i}-amd64-advanced-0c3cc8ac-60cb-4cd4-a9e2-ca0a2e7d3d29' {{\n\tload_video\n\tinsmod gzio\n\
                 \tif [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi\n\tinsmod part_gpt\n\tinsmod ext2\n\
                 \tsearch --no-floppy --fs-uuid --set=root 0c3cc8ac-60cb-4cd4-a9e2-ca0a2e7d3d29\n\techo 'Loading Linux ...'\n\
                 \tlinux /boot/vmlinuz-6.1.0-{i}-amd64 root=UUID=0c3cc8ac-60cb-4cd4-a9e2-ca0a2e7d3d29 ro console=ttyS0 net.ifnames=0\n\
                 \techo 'Loading initial ramdisk ...'\n\tinitrd /boot/initrd.img-6.1.0-{i}-amd64\n}}\n"
            )
        };
        "load_env\nset default=0\n".to_owned() + &(0..entries).map(entry).collect::<String>()
    }

    /// The memory left after a boot and after a survey.
    fn left(entries: usize) -> [usize; 2] {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let file = Path::new("/boot/grub/grub.cfg");
        host.write_atomic(file, config(entries).as_bytes(), 0o644).unwrap();
        let world = World {
            host: &host,
            flavor: Flavor::Upstream,
            dialect: Dialect::GNU,
            copies_ids: false,
            efi: false,
            writable: true,
            planned: &Planned::new(),
        };
        [None, Some(Vec::new())].map(|surveyed| {
            let mut machine = Machine::new(&world, file, EnvFiles::new());
            let surveys = surveyed.is_some();
            machine.surveyed = surveyed;
            machine.run(file);
            assert_eq!(machine.surveyed.map_or(0, |all| all.len()), if surveys { entries.min(1000) } else { 0 });
            machine.budget.left()
        })
    }

    #[test]
    fn a_configuration_of_hundreds_of_kernels_takes_a_small_part_and_one_of_ten_thousand_fits() {
        for (entries, part) in [(400, 20), (10_000, 1)] {
            for left in left(entries) {
                let taken = MAX - left;
                assert!(left > 0 && taken <= MAX / part, "{entries} entries take {taken}");
            }
        }
    }

    #[test]
    fn after_the_limit_is_exceeded_every_later_charge_fails() {
        let mut budget = Budget::default();
        assert!(budget.spend(MAX) && !budget.is_over());
        assert!(!budget.spend(1) && !budget.spend(0) && budget.is_over());
    }
}
