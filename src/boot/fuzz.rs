//! Feeds arbitrary bytes to every file that decides what boots next, on an otherwise sound machine. A panic or an endless run is a failure;
//! the resolver's answer is not checked. Runs here are bounded; tests/fuzz has a target of the same name for each file (cargo-fuzz), with a
//! corpus that is also run here.

use crate::config;
use crate::host::Host;
use std::io::Write;
use std::path::Path;
use std::time::SystemTime;
use std::{fs, io};

const OLD: &str = "4.18.0-80.el8.x86_64";
const NEW: &str = "4.18.0-553.el8.x86_64";
const ID: &str = "0c3cc8ac60cb4cd4a9e2ca0a2e7d3d29";
const VARIABLE: &str = "/sys/firmware/efi/efivars/LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// The file of each target, and the loader that reads it.
pub const ALL: [(&str, &str, Kind); 9] = [
    ("grub_cfg", "/boot/grub2/grub.cfg", Kind::Grub2),
    ("grubenv", "/boot/grub2/grubenv", Kind::Grub2),
    ("bls_entry", "/boot/loader/entries/0c3cc8ac60cb4cd4a9e2ca0a2e7d3d29-4.18.0-80.el8.x86_64.conf", Kind::Grub2),
    ("grub_legacy", "/boot/grub/grub.conf", Kind::Legacy),
    ("loader_conf", "/boot/loader/loader.conf", Kind::SystemdBoot),
    ("loader_entry", "/boot/loader/entries/a.conf", Kind::SystemdBoot),
    ("efi_variable", VARIABLE, Kind::SystemdBoot),
    ("unified_image", "/boot/EFI/Linux/a.efi", Kind::SystemdBoot),
    ("kernel_header", "/boot/vmlinuz-4.18.0-80.el8.x86_64", Kind::Grub2),
];

/// Which loader a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// GRUB 2 with entries in grub.cfg and Boot Loader Specification files.
    Grub2,
    /// GRUB 0.97.
    Legacy,
    /// systemd-boot.
    SystemdBoot,
}

/// A machine that is made once and gets one file after the other.
pub struct Machine {
    dir: tempfile::TempDir,
    host: Host,
}

impl Machine {
    /// A sound machine with this loader.
    ///
    /// # Errors
    /// If the temporary directory cannot be written.
    pub fn new(kind: Kind) -> anyhow::Result<Machine> {
        let dir = tempfile::tempdir()?;
        let machine = Machine { host: Host::new(dir.path())?, dir };
        for kernel in [OLD, NEW] {
            for path in [format!("/boot/vmlinuz-{kernel}"), format!("/lib/modules/{kernel}/modules.dep")] {
                machine.put(&path, b"")?;
            }
            let entry = format!("title {kernel}\nversion {kernel}\nlinux /vmlinuz-{kernel}\noptions root=/dev/vda1\n");
            if kind != Kind::Legacy {
                machine.put(&format!("/boot/loader/entries/{ID}-{kernel}.conf"), entry.as_bytes())?;
            }
        }
        match kind {
            Kind::Grub2 => {
                let config = "load_env\nset default=\"${saved_entry}\"\nblscfg\nmenuentry a { linux /vmlinuz-4.18.0-80.el8.x86_64\n}\n";
                machine.put("/boot/grub2/grub.cfg", config.as_bytes())?;
                let mut block = b"# GRUB Environment Block\nsaved_entry=a\n".to_vec();
                block.resize(super::grubenv::SIZE, b'#');
                machine.put("/boot/grub2/grubenv", &block)?;
            }
            Kind::Legacy => {
                machine.put("/boot/grub/grub.conf", format!("default=0\ntitle a\n kernel /vmlinuz-{OLD}\n").as_bytes())?;
            }
            Kind::SystemdBoot => machine.put("/boot/loader/loader.conf", b"default *\n")?,
        }
        Ok(machine)
    }

    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.dir.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        let mut file = fs::File::create(path)?;
        file.write_all(bytes)?;
        // Dated long ago: the resolver rereads a file that was written just now.
        file.set_modified(SystemTime::UNIX_EPOCH)
    }

    /// Resolves what boots with these bytes in this file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn try_with(&self, path: &str, bytes: &[u8]) -> io::Result<super::NextBoot> {
        self.put(path, bytes)?;
        Ok(super::next_boot(&self.host, &config::Boot::default()))
    }
}

/// One run of a target; the machine is kept for the next run of this thread.
///
/// # Panics
/// If there is no such target, or no temporary directory can be written.
#[allow(clippy::expect_used)] // for fuzzing alone
pub fn run(name: &str, bytes: &[u8]) {
    thread_local! {
        static MACHINE: std::cell::RefCell<Option<(String, Machine)>> = const { std::cell::RefCell::new(None) };
    }
    let (_, path, kind) = ALL.iter().find(|(n, _, _)| *n == name).expect("a target of this name");
    MACHINE.with_borrow_mut(|kept| {
        if kept.as_ref().is_none_or(|(n, _)| n != name) {
            *kept = Some((name.to_owned(), Machine::new(*kind).expect("a temporary directory")));
        }
        if let Some((_, machine)) = kept {
            machine.try_with(path, bytes).expect("writing the file");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    #[test]
    fn every_machine_boots_something_before_its_file_is_changed() {
        for (name, path, kind) in ALL {
            let machine = Machine::new(kind).unwrap();
            let answer = super::super::next_boot(&machine.host, &config::Boot::default());
            assert!(answer.certain && !answer.kernels.is_empty(), "{name}: {:?}", answer.problems);
            // The resolver looks at files below these directories.
            assert!(path.starts_with("/boot") || path.starts_with("/sys"), "{name}");
        }
    }

    /// Runs every file of the corpus, as it is and with single bytes changed.
    #[test]
    fn the_corpus_of_every_target_passes() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
        for (name, _, _) in ALL {
            assert!(top.join(format!("fuzz_targets/{name}.rs")).is_file(), "tests/fuzz has no target {name}");
            let mut seeds = 0;
            for seed in fs::read_dir(top.join("corpus").join(name)).unwrap() {
                let mut bytes = fs::read(seed.unwrap().path()).unwrap();
                seeds += 1;
                run(name, &bytes);
                for at in 0..bytes.len().min(256) {
                    let kept = bytes[at];
                    bytes[at] = kept.wrapping_mul(31).wrapping_add(u8::try_from(at % 251).unwrap());
                    let start = Instant::now();
                    run(name, &bytes);
                    assert!(start.elapsed() < Duration::from_secs(20), "{name}: byte {at}");
                    bytes[at] = kept;
                }
            }
            assert!(seeds > 0, "{name} has no corpus");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn no_bytes_make_the_resolver_panic(which in 0..ALL.len(), noise in proptest::collection::vec(any::<u8>(), 0..600)) {
            run(ALL[which].0, &noise);
        }
    }
}
