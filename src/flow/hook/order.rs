//! Which hook calls when, which files are on disk at that time, and what may be done about it.
//!
//! | packages | calls, in this order |
//! |---|---|
//! | EL6 | `%post` of a new kernel, then the trigger of our package · `%preun` of a removed one: prerm.d · `%posttrans`: postinst.d, then weak-modules · the action |
//! | EL7 | the same, weak-modules first; with `installonly_limit` all of it is one transaction |
//! | Amazon Linux 2 | the same, but the entry and the default are made in `%posttrans` |
//! | EL8 and later, Fedora, Amazon Linux 2023 | `%preun` of a removed kernel: 99-…install · `%posttrans` of a new one: 45-…install, dracut, 99-…install · the file trigger · the action |
//! | Debian | postrm of a removed kernel: initramfs-tools, zz-update-grub, zzz-vfguard · postinst of a new one, or of its headers: the same · dpkg's trigger |
//! | Ubuntu | the same, but postinst.d is called by a trigger of the kernel's package, which may come after ours |
//!
//! What the package manager's own scriptlets have written at that time differs: see [`Stage`]. `%post` of EL6 and EL7 makes the boot entry
//! and the default before there is an initramfs. After a Ctrl-C between that and `%posttrans`, no further hook is called. Sources: the
//! kernel.spec of each release, Debian's linux-image maintainer scripts, kernel-install(8).

/// How far a transaction is when a hook calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// A kernel's own `%post` has run. It may have made the boot entry and the default; everything else is still missing.
    Begun,
    /// A kernel is unpacked; its initramfs or its boot entry is not written yet. A module that is built now goes into the initramfs.
    Unpacked,
    /// A kernel is about to be removed, or half removed, and others may be half installed.
    Leaving,
    /// Initramfs and boot entry are written, as far as is known.
    Written,
    /// All scriptlets have run.
    Done,
}

/// The name that each hook passes with `--from`, and when it calls.
pub const HOOKS: [(&str, Stage); 12] = [
    ("package-trigger", Stage::Begun),
    ("kernel-install-early", Stage::Unpacked),
    // Headers of a kernel that may come later in the same run.
    ("header-postinst", Stage::Unpacked),
    ("prerm", Stage::Leaving),
    ("postinst", Stage::Written),
    ("kernel-install", Stage::Written),
    ("rpm-trigger", Stage::Done),
    ("dpkg-trigger", Stage::Done),
    ("yum", Stage::Done),
    ("dnf", Stage::Done),
    ("dnf5", Stage::Done),
    ("install", Stage::Done),
];

impl Stage {
    /// The stage of a hook. An unknown name counts as a hook that calls when everything is written.
    pub fn of(name: &str) -> Stage {
        HOOKS.iter().find(|(hook, _)| *hook == name).map_or(Stage::Written, |(_, stage)| *stage)
    }

    /// Whether the files on disk are final, so that the default may be promoted and the gate opened.
    pub fn is_final(self) -> bool {
        match self {
            Stage::Begun | Stage::Unpacked | Stage::Leaving => false,
            Stage::Written | Stage::Done => true,
        }
    }

    /// Whether a driver may be built now, here or by the worker. A removal does not wait for a build, nor does a stage after which a later
    /// hook builds.
    pub fn builds(self) -> bool {
        match self {
            Stage::Begun | Stage::Leaving => false,
            Stage::Unpacked | Stage::Written | Stage::Done => true,
        }
    }

    /// Whether the hook reports the verdict; if not, a later one does.
    pub fn tells(self) -> bool {
        self.builds()
    }

    /// Whether a kernel that was named as leaving has now been removed or reinstalled.
    pub fn forgets(self) -> bool {
        match self {
            Stage::Begun | Stage::Leaving => false,
            Stage::Unpacked | Stage::Written | Stage::Done => true,
        }
    }
}
