//! Whether a downloaded RPM is signed by a key that this machine trusts. rpmkeys(8) checks it with a separate keyring, so that the
//! machine's own is neither changed nor needed. Neither dnf 4 nor dnf 5 checks the signature of a package that it only downloads.
//!
//! rpm 4.14 and later refuse an unsigned package if `_pkgverify_level` requires a signature; earlier versions accept it. So the lines of
//! `--checksig -v` are read as well, whose format has been the same since 4.4:
//!
//! ```text
//! FILE:
//!     Header V4 RSA/SHA512 Signature, key ID 71567ce2: OK         NOKEY, NOTFOUND, BAD
//!     Payload SHA256 digest: OK                                   stored in the header
//!     V4 RSA/SHA256 Signature, key ID 71567ce2: OK                header and payload; none since 4.14 or so
//!     MD5 digest: OK                                              proves nothing: anyone can make it
//! ```

use super::lists::{reason, Lists};
use super::repository::Repositories;
use crate::error::advise;
use crate::host::command::Spec;
use crate::host::files;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time for one call of rpm: a package of 100 MB takes a second.
const LIMIT: Duration = Duration::from_secs(120);
/// The size of a file of keys; Fedora's with all releases takes 40 kB.
const MAX_KEYS: u64 = 1 << 20;
/// More keys than any machine has.
const MAX_KEY_COUNT: usize = 200;
const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";

/// What is wrong with a package's signature.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// It has no signature.
    Unsigned,
    /// It is signed by a key that is not in the keyring; with rpm's message.
    UnknownKey(String),
    /// Anything else: the package was changed after it was signed, or cannot be read.
    Bad(String),
}

/// Keys that this machine trusts.
pub(super) struct Keyring {
    // rpm's database, which only this process can write.
    database: PathBuf,
}

impl Keyring {
    /// rpm's own keys, and the key files that the repositories name.
    ///
    /// # Errors
    /// If rpm cannot be run or files cannot be written. A key that rpm does not accept is left out.
    pub(super) fn new(lists: &Lists, repositories: &Repositories, dir: &Path) -> Result<Keyring> {
        let keyring = Keyring { database: dir.join("keys") };
        files::create_dirs(&keyring.database, 0o700)?;
        let mut keys = BTreeSet::new();
        // Since rpm 6 not all keys are packages of its database; earlier versions have no `--export`.
        for spec in [
            Spec::new("rpm", ["-q", "gpg-pubkey", "--qf", "%{DESCRIPTION}\\n"], LIMIT),
            Spec::new("rpmkeys", ["--export"], LIMIT),
        ] {
            keys.extend(blocks(&lists.ask(spec)?.text));
        }
        for file in &repositories.keys {
            let text = files::read_bounded(file, MAX_KEYS).unwrap_or_default();
            keys.extend(blocks(&String::from_utf8_lossy(&text)));
        }
        let one = dir.join("key");
        for key in keys.iter().take(MAX_KEY_COUNT) {
            fs::write(&one, key).with_context(|| format!("writing {}", one.display()))?;
            lists.ask(keyring.rpmkeys(["--import".as_ref(), one.as_os_str()]))?;
        }
        Ok(keyring)
    }

    fn rpmkeys<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Spec {
        // These override the machine's own macros.
        let mut spec = Spec::new("rpmkeys", [] as [&str; 0], LIMIT);
        let database = self.database.to_string_lossy().replace('%', "%%");
        for define in [
            format!("_dbpath {database}"),
            format!("_keyringpath {database}/pubkeys/"),
            "_pkgverify_level signature".to_owned(),
            "_pkgverify_flags 0".to_owned(),
        ] {
            spec.args.extend([OsString::from("--define"), define.into()]);
        }
        spec.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        spec
    }

    /// Checks a package file. Returns whether it is signed; if not, it was accepted because `allow_unsigned` and its repositories permit
    /// it.
    ///
    /// # Errors
    /// If it is refused, with the package, the reason and the remedy.
    pub(super) fn check(
        &self,
        lists: &Lists,
        file: &Path,
        package: &str,
        from: &Repositories,
        allow_unsigned: bool,
    ) -> Result<bool> {
        let act = || format!("looking at {}", file.display());
        // A link could lead to a file that others may write.
        anyhow::ensure!(fs::symlink_metadata(file).with_context(act)?.is_file(), "{}: not a regular file", act());
        let said = lists.ask(self.rpmkeys(["-v".as_ref(), "--checksig".as_ref(), file.as_os_str()]))?;
        let fault = match judge(said.ok, &said.text) {
            Ok(()) => return Ok(true),
            Err(Fault::Unsigned | Fault::UnknownKey(_)) if allow_unsigned && from.unchecked => return Ok(false),
            Err(fault) => fault,
        };
        Err(refusal(fault, package, from, allow_unsigned))
    }
}

/// Evaluates the output of `rpmkeys -v --checksig` for a package.
fn judge(ok: bool, text: &str) -> Result<(), Fault> {
    let (mut header, mut payload, mut whole) = (false, false, false);
    let mut unknown = None;
    let mut bad = None;
    let mut lines = 0;
    for line in text.lines().map(str::trim) {
        let Some((what, status)) = line.rsplit_once(": ") else { continue };
        let lower = what.to_lowercase();
        let (signature, digest) = (lower.contains("signature"), lower.ends_with("digest"));
        if !signature && !digest {
            continue;
        }
        lines += 1;
        match status.split([' ', '(']).next().unwrap_or_default() {
            "OK" if signature && lower.starts_with("header") => header = true,
            "OK" if signature => whole = true,
            "OK" => payload |= lower.starts_with("payload"),
            "NOTFOUND" => {}
            "NOKEY" => unknown = unknown.or(Some(what)),
            _ => bad = bad.or(Some(line)),
        }
    }
    // The header's signature covers the payload by the digest in it; an older package has a signature of both.
    if ok && bad.is_none() && (header && payload || whole) {
        return Ok(());
    }
    match (bad, unknown) {
        // Without the digests in parentheses after it.
        (Some(line), _) => Err(Fault::Bad(line.split(" (").next().unwrap_or(line).to_owned())),
        (None, Some(what)) => Err(Fault::UnknownKey(what.to_owned())),
        // Only digests, which show that the package is complete, but not who made it.
        (None, None) if lines > 0 && !header && !whole => Err(Fault::Unsigned),
        (None, None) if lines > 0 => Err(Fault::Bad("the signature does not cover the payload".to_owned())),
        (None, None) => Err(Fault::Bad(reason(text))),
    }
}

fn refusal(fault: Fault, package: &str, from: &Repositories, allow_unsigned: bool) -> anyhow::Error {
    let installed = "name a kernel whose headers are installed: `vfguard rehearse KERNEL`";
    let unsigned = || {
        match (from.unchecked, allow_unsigned) {
        (true, _) => format!(
            "use a repository that signs its packages; or, to trust {from} as it is: rehearse.allow_unsigned = true in /etc/vfguard/config.toml"
        ),
        (false, true) => format!("rehearse.allow_unsigned counts only where gpgcheck is off; {installed}"),
        (false, false) => format!("tell who runs {from}; {installed}"),
    }
    };
    let (why, remedy) = match fault {
        Fault::Unsigned => ("the package is not signed".to_owned(), unsigned()),
        Fault::UnknownKey(what) => {
            let remedy = match (from.remote.as_slice(), from.unchecked) {
                ([], true) => format!("rpm --import its key; or {}", unsigned()),
                ([], false) => format!("get the key of {from} from who runs it, and: rpm --import FILE"),
                (keys, _) => format!("rpm --import {}", keys.join(" ")),
            };
            (format!("the package is signed with an unknown key ({what})"), remedy)
        }
        Fault::Bad(line) => (
            format!("the package is not what was signed ({line})"),
            format!("dnf clean packages, and try again; if it stays so, do not install it and tell who runs {from}"),
        ),
    };
    advise(format!("{package} from {from} is refused: {why}"), remedy)
}

/// The keys in a text, each by itself: rpm rejects a whole file if one key is broken.
fn blocks(text: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut key: Option<String> = None;
    for line in text.lines() {
        if line.trim() == BEGIN {
            key = Some(String::new());
        }
        if let Some(key) = &mut key {
            key.push_str(line.trim_end());
            key.push('\n');
        }
        if line.trim() == END {
            keys.extend(key.take());
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = "    Header V4 RSA/SHA512 Signature, key ID 71567ce2: OK\n    Header SHA256 digest: OK\n    Header SHA1 digest: OK\n\
                       \x20   Payload SHA256 ALT digest: OK\n    Payload SHA256 digest: OK\n    MD5 digest: OK\n";
    /// Output of rpm 4.11.
    const OLD: &str = "a.rpm:\n    Header V3 RSA/SHA256 Signature, key ID f4a80eb5: OK\n    Header SHA1 digest: OK (7ea5)\n\
                       \x20   V3 RSA/SHA256 Signature, key ID f4a80eb5: OK\n    MD5 digest: OK (0a6b)\n";

    #[test]
    fn a_signature_must_cover_header_and_payload() {
        assert_eq!(judge(true, NEW), Ok(()));
        assert_eq!(judge(true, OLD), Ok(()));
        // rpm's exit code counts too.
        assert!(matches!(judge(false, NEW), Err(Fault::Bad(_))));
        let without = |text: &str, word: &str| -> String {
            text.lines().filter(|l| !l.contains(word)).map(|l| format!("{l}\n")).collect()
        };
        // Output of an old rpm, with exit code 0, for a package whose signature over header and payload was removed.
        assert_eq!(
            judge(true, &without(OLD, "    V3")),
            Err(Fault::Bad("the signature does not cover the payload".to_owned()))
        );
        assert!(matches!(judge(true, &without(NEW, "Payload")), Err(Fault::Bad(_))));
        assert_eq!(judge(true, &without(NEW, "Signature")), Err(Fault::Unsigned));
        assert_eq!(judge(true, &without(OLD, "Signature")), Err(Fault::Unsigned));
    }

    #[test]
    fn an_unknown_key_and_a_changed_payload_are_distinguished() {
        let nokey = NEW.replace("71567ce2: OK", "71567ce2: NOKEY") + "    DSA signature: NOTFOUND\n";
        let what = "Header V4 RSA/SHA512 Signature, key ID 71567ce2".to_owned();
        assert_eq!(judge(false, &nokey), Err(Fault::UnknownKey(what)));
        let changed = nokey.replace("Payload SHA256 digest: OK", "Payload SHA256 digest: BAD (Expected c1fa != 9a7c)");
        assert_eq!(judge(false, &changed), Err(Fault::Bad("Payload SHA256 digest: BAD".to_owned())));
        assert!(matches!(judge(false, "error: a.rpm: not an rpm package\n"), Err(Fault::Bad(_))));
        assert!(matches!(judge(true, ""), Err(Fault::Bad(_))));
    }

    #[test]
    fn the_remedy_fits_the_repository() {
        let from = |unchecked, remote: &[&str]| Repositories {
            ids: vec!["r".into()],
            unchecked,
            remote: remote.iter().map(|r| (*r).to_owned()).collect(),
            ..Repositories::default()
        };
        let remedy = |fault, from: &Repositories, allowed| {
            let error = refusal(fault, "kernel-devel-1", from, allowed);
            assert!(error.to_string().starts_with("kernel-devel-1 from repository r is refused: "), "{error}");
            crate::error::remedy(&error).unwrap_or_default().to_owned()
        };
        assert!(remedy(Fault::Unsigned, &from(true, &[]), false).contains("rehearse.allow_unsigned = true"));
        assert!(!remedy(Fault::Unsigned, &from(false, &[]), false).contains("allow_unsigned"));
        assert!(remedy(Fault::Unsigned, &from(false, &[]), true).contains("only where gpgcheck is off"));
        let key = || Fault::UnknownKey("key ID 1".into());
        assert_eq!(remedy(key(), &from(false, &["https://h/k"]), false), "rpm --import https://h/k");
        assert!(remedy(key(), &from(false, &[]), false).ends_with("rpm --import FILE"));
    }

    #[test]
    fn keys_are_imported_one_by_one() {
        let text = format!("x\n{BEGIN}\nA\n{END}\ny\n{BEGIN}\nB\n{BEGIN}\nC\n{END}\n{BEGIN}\nD\n");
        assert_eq!(blocks(&text), [format!("{BEGIN}\nA\n{END}\n"), format!("{BEGIN}\nC\n{END}\n")]);
    }
}
