//! A hold for a grub.cfg with a default of its own: a marked block at the end of custom.cfg, which the stock `41_custom` reads last.
//!
//! The block begins with an empty line, which is removed with it, so that a file whose last line has no newline is restored byte for byte.
//! The block does nothing if `boot_once` is set, so that `grub-reboot` works. It cannot test `next_entry` instead, since grub.cfg has
//! already cleared that variable.

use crate::boot::steps::mark::{self, COMMENT};
use crate::boot::steps::plan::real;
use crate::boot::steps::told::HoldMark;
use crate::error::{advise, Remedy};
use crate::host::{files, Host};
use crate::kernel::KernelRelease;
use anyhow::Result;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file's name, beside the grub.cfg that is really run.
pub(super) const NAME: &str = "custom.cfg";
/// Handwritten files have a few lines.
const MAX: u64 = 1 << 20;
const END: &str = "# vfguard-hold end";
/// The end line if the file did not exist before.
const CREATED: &str = "# vfguard-hold end, and of this file";
const GUARDED: &str = "if [ -z \"${boot_once}\" ]; then set default=";
const ALWAYS: &str = "if true; then set default=";

/// The present file.
pub(super) struct Custom {
    /// Its path on the disk, with links resolved.
    pub at: PathBuf,
    /// Its content; none where there is no file.
    pub content: Option<Vec<u8>>,
    /// What a person should know about it.
    pub note: Option<String>,
}

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A hold that leaves a one-shot default in effect.
    Hold,
    /// A hold that overrides a one-shot default.
    Unattended,
}

/// Reads the file, if it may be written.
pub(super) fn read(host: &Host, path: &Path) -> Result<Custom> {
    let (shown, at) = (path.display(), real(host, path));
    let link = host.path_of_link(path).symlink_metadata().is_ok_and(|m| m.file_type().is_symlink());
    if link && (!at.exists() || !host.name(&at).starts_with("/boot") || super::crosses(host, path)) {
        return Err(advise(
            format!("{shown} is a link that GRUB may not follow, so it is not written"),
            format!("put a file in its place: cp --remove-destination \"$(readlink -f {shown})\" {shown}"),
        ));
    }
    if !at.exists() {
        return Ok(Custom { at, content: None, note: None });
    }
    let content = files::read_bounded(&at, MAX).remedy(
        format!("reading {shown}, which a hold would be written to"),
        format!("move what does not belong there out of {shown}"),
    )?;
    let note = at.metadata().ok().filter(|meta| meta.uid() != 0 || meta.mode() & 0o022 != 0).map(|meta| {
        format!(
            "others than root can write {shown} (owner {}, mode {:o}), which GRUB runs: chown root: {shown}; chmod go-w {shown}",
            meta.uid(),
            meta.mode() & 0o7777
        )
    });
    Ok(Custom { at, content: Some(content), note })
}

impl Custom {
    /// The file without our blocks; none if it is to be removed.
    pub fn without(&self) -> Option<Vec<u8>> {
        let (rest, created) = stripped(self.content.as_deref()?);
        (!created || !rest.is_empty()).then_some(rest)
    }

    /// The file with one block of ours, at its end; none if the entry's name cannot be quoted in GRUB's language.
    pub fn with(&self, kind: Kind, held: &KernelRelease, wanted: Option<&KernelRelease>, selector: &str) -> Option<Vec<u8>> {
        let (mut text, created) = stripped(self.content.as_deref().unwrap_or_default());
        let created = created || self.content.is_none();
        let set = match kind {
            Kind::Hold => GUARDED,
            Kind::Unattended => ALWAYS,
        };
        let end = if created { CREATED } else { END };
        text.extend(format!("\n{}{set}{}; fi\n{end}\n", mark::comment(held, wanted), quoted(selector)?).into_bytes());
        Some(text)
    }

    /// Whether it contains a block of ours, or a part of one.
    pub fn has_block(&self) -> bool {
        self.content.as_deref().is_some_and(|text| lines(text).any(is_ours))
    }

    /// The mark of the last block, which is the one that GRUB uses.
    pub fn mark(&self) -> Option<HoldMark> {
        let line = lines(self.content.as_deref()?).filter(|line| is_mark(line)).last()?;
        let line = String::from_utf8_lossy(line.strip_prefix(COMMENT.as_bytes())?).into_owned();
        mark::parse(&line)
    }
}

/// The text as a quoted word of GRUB's language, as grub-mkconfig's `grub_quote` writes it; none for text that no title contains.
fn quoted(text: &str) -> Option<String> {
    let sound = !text.is_empty() && !text.contains(|c: char| c.is_control() || c == '\u{fffd}');
    sound.then(|| format!("'{}'", text.replace('\'', "'\\''")))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
}

fn is_end(line: &[u8]) -> bool {
    line.starts_with(END.as_bytes())
}

fn is_mark(line: &[u8]) -> bool {
    line.starts_with(COMMENT.as_bytes()) && !is_end(line)
}

fn is_ours(line: &[u8]) -> bool {
    is_mark(line) || is_end(line)
}

/// The text without our blocks, and whether one of them says that there was no file before. A block without an end consists of its mark and
/// the following lines that only we write.
fn stripped(text: &[u8]) -> (Vec<u8>, bool) {
    let (mut rest, mut created) = (Vec::new(), false);
    let lines: Vec<&[u8]> = lines(text).collect();
    let (mut at, mut cut) = (0, false);
    while let Some(line) = lines.get(at) {
        at += 1;
        if is_end(line) {
            created |= line.starts_with(CREATED.as_bytes());
        } else if is_mark(line) {
            if rest.last() == Some(&b'\n') {
                rest.pop();
            }
            cut = true;
            match lines[at..].iter().position(|line| is_ours(line)) {
                Some(n) if is_end(lines[at + n]) => at += n,
                Some(_) | None => {
                    let set = |line: &&&[u8]| [GUARDED, ALWAYS].iter().any(|set| line.starts_with(set.as_bytes()));
                    at += lines[at..].iter().take_while(set).count();
                }
            }
        } else {
            // Text that somebody added after a block stays on a line of its own.
            if cut && rest.last().is_some_and(|last| *last != b'\n') {
                rest.push(b'\n');
            }
            cut = false;
            rest.extend_from_slice(line);
        }
    }
    (rest, created)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn custom(content: Option<&[u8]>) -> Custom {
        Custom { at: PathBuf::new(), content: content.map(<[u8]>::to_vec), note: None }
    }

    fn held(content: Option<&[u8]>, kind: Kind, kernel: &str) -> Custom {
        let (kernel, wanted) = (kernel.parse().unwrap(), "6.1.0-54".parse().unwrap());
        custom(Some(&custom(content).with(kind, &kernel, Some(&wanted), "A>it's $x \\ \"q\"").unwrap()))
    }

    #[test]
    fn removing_a_block_restores_every_byte() {
        let files: [Option<&[u8]>; 6] =
            [None, Some(b""), Some(b"set a=b\n"), Some(b"set a=b"), Some(b"\n\n"), Some(b"menuentry '\xff' {\n}\n\n")];
        for before in files {
            for kind in [Kind::Hold, Kind::Unattended] {
                let one = held(before, kind, "6.1.0-53");
                let two = held(one.content.as_deref(), Kind::Hold, "6.1.0-52");
                assert_eq!((one.without().as_deref(), two.without().as_deref()), (before, before), "{kind:?}");
                assert_eq!(one.mark().unwrap().held.as_str(), "6.1.0-53");
                assert_eq!(two.mark().unwrap().held.as_str(), "6.1.0-52");
            }
        }
    }

    #[test]
    fn an_edited_block_is_removed_with_everything_of_ours_and_nothing_else() {
        let whole = String::from_utf8(held(Some(b"a\n"), Kind::Hold, "6.1.0-53").content.unwrap()).unwrap();
        let set = whole.lines().find(|line| line.starts_with("if ")).unwrap();
        for (changed, rest) in [
            (whole.clone() + "b\n", "a\nb\n"),
            (whole.replacen("a\n\n", "a\n", 1) + "b\n", "a\nb\n"),
            (whole.clone() + &whole["a\n".len()..], "a\n"),
            (whole.replace("# vfguard-hold end\n", ""), "a\n"),
            (whole.replace("# vfguard-hold end\n", "b\n"), "a\nb\n"),
            (whole.replace(set, "set default=0"), "a\n"),
            (whole.replace(&format!("{set}\n"), ""), "a\n"),
            ("a\n# vfguard-hold end\nb\n".into(), "a\nb\n"),
        ] {
            let without = custom(Some(changed.as_bytes())).without().unwrap();
            assert_eq!(String::from_utf8(without).unwrap(), rest, "{changed}");
        }
    }

    #[test]
    fn text_that_cannot_be_quoted_is_not_used() {
        for (text, want) in
            [("a", Some("'a'")), ("it's", Some(r"'it'\''s'")), ("", None), ("a\nb", None), ("\u{fffd}", None)]
        {
            assert_eq!(quoted(text).as_deref(), want, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_file_comes_back(text in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assume!(!custom(Some(&text)).has_block());
            prop_assert_eq!(held(Some(&text), Kind::Hold, "6.1.0-53").without(), Some(text));
        }
    }
}
