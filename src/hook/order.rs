//! Which hook calls when, what is on disk by then, and what may be done about it.
//!
//! | packages | calls, in this order |
//! |---|---|
//! | EL6 | `%post` of a kernel that comes, then the trigger of our package · `%preun` of one that goes: prerm.d · `%posttrans`: postinst.d, then weak-modules · the action |
//! | EL7, Amazon Linux 2 | the same, weak-modules first; with `installonly_limit` all of it is one transaction |
//! | EL8 and later, Fedora, Amazon Linux 2023 | `%posttrans`: 45-…install, dracut, 99-…install · `%preun`: 99-…install · the file trigger · the action |
//! | Debian, Ubuntu | postinst: initramfs-tools, zz-update-grub, zzz-vfguard · postrm: initramfs-tools, zz-update-grub, zzz-vfguard · dpkg's trigger |
//!
//! What a package manager's own scriptlets have written by then differs: see [`Stage`]. `%post` of EL6 and EL7 makes the boot entry, and the
//! default, before there is an initramfs; after a Ctrl-C between that and `%posttrans` no other hook is ever called. Sources: the
//! kernel.spec of each release, Debian's linux-image maintainer scripts, kernel-install(8).

/// How far a transaction is when a hook calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
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
pub const HOOKS: [(&str, Stage); 11] = [
    ("package-trigger", Stage::Unpacked),
    ("kernel-install-early", Stage::Unpacked),
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
    /// That of a hook; one of somebody's own is taken to call once all is written.
    pub fn of(name: &str) -> Stage {
        HOOKS.iter().find(|(hook, _)| *hook == name).map_or(Stage::Written, |(_, stage)| *stage)
    }

    /// Whether what is on disk may be led into: the boot default be promoted, the gate be opened.
    pub fn is_final(self) -> bool {
        match self {
            Stage::Unpacked | Stage::Leaving => false,
            Stage::Written | Stage::Done => true,
        }
    }

    /// Whether a driver is built now, or has one built. A removal is not kept waiting.
    pub fn builds(self) -> bool {
        match self {
            Stage::Leaving => false,
            Stage::Unpacked | Stage::Written | Stage::Done => true,
        }
    }
}
