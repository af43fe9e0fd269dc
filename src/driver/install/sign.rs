//! Signs a module with the machine's own key, by K's own `scripts/sign-file`: after stripping (which would remove the
//! signature) and outside of the sandbox (where the key is not).
//!
//! The program runs with vfguard's rights, and the kernel trusts the key, so both must be writable by root only. K's own
//! program is used and no code of vfguard, since kernels differ in the format (EL7's is not PKCS#7). A rehearsal signs
//! nothing: its headers may have been downloaded a moment ago.

use crate::config::{Sign, CONFIG};
use crate::error::{advise, Remedy};
use crate::host::command::{run_ok, Spec};
use crate::host::files::{self, trust};
use crate::host::Host;
use crate::kernel::tree::BuildTree;
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// sign-file takes a moment; a key in hardware takes longer.
const LIMIT: Duration = Duration::from_secs(60);
/// The hash that kernels use by default.
const HASH: &str = "sha256";

/// Returns the module with a signature, or unchanged if no key is configured. `dir` is private to vfguard.
///
/// # Errors
/// When the key or the program is missing or can be changed by other users, or signing fails.
pub(in crate::driver) fn sign(
    host: &Host,
    config: &Sign,
    tree: &BuildTree,
    dir: &Path,
    name: &str,
    bytes: Vec<u8>,
) -> Result<Vec<u8>> {
    let (Some(key), Some(certificate)) = (&config.key, &config.certificate) else { return Ok(bytes) };
    let Some(program) = tree.script(host, "scripts/sign-file") else {
        return Err(advise(
            format!("the build tree of {} has no scripts/sign-file", tree.release),
            "install the whole headers of the kernel, or remove [sign] from the configuration",
        ));
    };
    let act = || format!("signing {name}.ko");
    may_run(host, &program).with_context(act)?;
    for path in [key, certificate] {
        trust::open(&host.path(path), path).with_context(act)?;
    }
    let file = dir.join(format!("{name}.ko"));
    files::write_atomic(&file, &bytes, 0o600)?;
    let hash = tree.config("CONFIG_MODULE_SIG_HASH").unwrap_or(HASH);
    let (key, certificate) = (host.path(key), host.path(certificate));
    let args: [&OsStr; 4] = [hash.as_ref(), key.as_ref(), certificate.as_ref(), file.as_ref()];
    run_ok(&Spec::new(&program.to_string_lossy(), args, LIMIT))
        .remedy(act(), format!("check sign.key and sign.certificate in {CONFIG}"))?;
    let signed =
        files::read_bounded(&file, crate::host::MAX_FILE).with_context(|| format!("reading the signed {name}.ko"))?;
    files::remove(&file)?;
    Ok(signed)
}

/// Whether only root can have written the program. Some users create their own trees in a package's directory.
fn may_run(host: &Host, program: &Path) -> Result<()> {
    trust::whole_way(program).map_err(|error| {
        let name = host.name(program);
        advise(
            format!("{} would run as root to sign a module, and {error:#}", name.display()),
            format!("make it root's (chown -R root: DIR; chmod -R go-w DIR), or remove [sign] from {CONFIG}"),
        )
    })
}

/// Checks the key and its certificate before anything has to be signed; none if no key is configured.
///
/// # Errors
/// When one cannot be read, or can be written by other users.
pub(crate) fn look(host: &Host, config: &Sign) -> Result<Option<Key>> {
    let (Some(key), Some(certificate)) = (&config.key, &config.certificate) else { return Ok(None) };
    trust::open(&host.path(certificate), certificate)?;
    let mode = trust::open(&host.path(key), key)?.metadata()?.mode();
    Ok(Some(Key { file: key.clone(), by_others: mode & 0o044 != 0 }))
}

/// A usable key.
pub(crate) struct Key {
    /// Its path below the root.
    pub file: PathBuf,
    /// Whether users other than its owner can read it.
    pub by_others: bool,
}
