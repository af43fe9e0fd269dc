//! Signs a module with the machine's own key, by K's own `scripts/sign-file`: after stripping (which would drop the
//! signature), outside the sandbox (where the key is not).

use crate::config::Sign;
use crate::error::{advise, Remedy};
use crate::host::command::{run_ok, Spec};
use crate::host::{files, Host};
use crate::kernel::tree::BuildTree;
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

/// sign-file takes a moment; a key in hardware takes longer.
const LIMIT: Duration = Duration::from_secs(60);
/// The hash that kernels use unless told otherwise.
const HASH: &str = "sha256";

/// The module with a signature; as it is when no key is configured. `dir` is private to us.
///
/// # Errors
/// When the key or the program is missing, or signing fails.
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
    let file = dir.join(format!("{name}.ko"));
    files::write_atomic(&file, &bytes, 0o600)?;
    let hash = tree.config("CONFIG_MODULE_SIG_HASH").unwrap_or(HASH);
    let (key, certificate) = (host.path(key), host.path(certificate));
    let args: [&OsStr; 4] = [hash.as_ref(), key.as_ref(), certificate.as_ref(), file.as_ref()];
    run_ok(&Spec::new(&program.to_string_lossy(), args, LIMIT))
        .remedy(format!("signing {name}.ko"), "look at sign.key and sign.certificate in /etc/vfguard/config.toml")?;
    let signed =
        files::read_bounded(&file, crate::host::MAX_FILE).with_context(|| format!("reading the signed {name}.ko"))?;
    files::remove(&file)?;
    Ok(signed)
}
