//! Which hook calls when, what is on disk by then, and what may be done about it.
//!
//! | packages | calls, in this order |
//! |---|---|
//! | EL6 | `%post` of a kernel that comes, then the trigger of our package · `%preun` of one that goes: prerm.d · `%posttrans`: postinst.d, then weak-modules · the action |
//! | EL7 | the same, weak-modules first; with `installonly_limit` all of it is one transaction |
//! | Amazon Linux 2 | the same, but the entry and the default are made in `%posttrans` |
//! | EL8 and later, Fedora, Amazon Linux 2023 | `%preun` of a kernel that goes: 99-…install · `%posttrans` of one that comes: 45-…install, dracut, 99-…install · the file trigger · the action |
//! | Debian | postrm of a kernel that goes: initramfs-tools, zz-update-grub, zzz-vfguard · postinst of one that comes, or of its headers: the same · dpkg's trigger |
//! | Ubuntu | the same, but postinst.d is called by a trigger of the kernel's package, which may come after ours |
//!
//! What a package manager's own scriptlets have written by then differs: see [`Stage`]. `%post` of EL6 and EL7 makes the boot entry, and the
//! default, before there is an initramfs; after a Ctrl-C between that and `%posttrans` no other hook is ever called. Sources: the
//! kernel.spec of each release, Debian's linux-image maintainer scripts, kernel-install(8).

/// How far a transaction is when a hook calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// A kernel's own `%post` has run, which may have made its boot entry and the default; all else is still to come.
    Begun,
    /// A kernel is unpacked; its initramfs or its boot entry is not written yet. What is built now goes into the initramfs.
    Unpacked,
    /// A kernel is about to go, or half gone, and others may be half there.
    Leaving,
    /// Initramfs and boot entry are written, by all that is known.
    Written,
    /// All scriptlets have run.
    Done,
}

/// Each hook's name for itself (`--from`), and when it calls.
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
    /// That of a hook. An unknown name counts as one that calls once all is written.
    pub fn of(name: &str) -> Stage {
        HOOKS.iter().find(|(hook, _)| *hook == name).map_or(Stage::Written, |(_, stage)| *stage)
    }

    /// Whether what is on disk may be led into: the boot default be promoted, the gate be opened.
    pub fn is_final(self) -> bool {
        match self {
            Stage::Begun | Stage::Unpacked | Stage::Leaving => false,
            Stage::Written | Stage::Done => true,
        }
    }

    /// Whether a driver is built now, or has one built. A removal is not kept waiting, nor what a later hook builds for.
    pub fn builds(self) -> bool {
        match self {
            Stage::Begun | Stage::Leaving => false,
            Stage::Unpacked | Stage::Written | Stage::Done => true,
        }
    }

    /// Whether it tells the verdict; else a later one does.
    pub fn tells(self) -> bool {
        self.builds()
    }

    /// Whether a kernel that was named as leaving is gone by now, or was installed anew.
    pub fn forgets(self) -> bool {
        match self {
            Stage::Begun | Stage::Leaving => false,
            Stage::Unpacked | Stage::Written | Stage::Done => true,
        }
    }
}
