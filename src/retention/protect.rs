//! Keeps the held kernel's packages installed: `apt-mark manual` while a hold is on, `apt-mark auto` once it has ended. This concerns only
//! packages that were marked automatic before; a record lists them. dnf, yum and zypp have no such means.
//!
//! apt-mark takes no lock, and a running apt writes the marks back as it read them (`apt-pkg/depcache.cc`, `writeStateFile`), so no mark is
//! set at that time: the next run tries again. A failure to mark is reported in a line, and prevents nothing.

use super::apt;
use crate::error::Remedy;
use crate::host::command::{run_ok, Spec};
use crate::host::{locks, Host};
use crate::kernel::KernelRelease;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The record, below the root, beside that of the hold.
const RECORD: &str = "/var/lib/vfguard/records/kept.json";
/// apt-mark reads the package lists, which takes a second or two.
const LIMIT: Duration = Duration::from_secs(30);

/// What was marked, and for which kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    kernel: KernelRelease,
    packages: Vec<String>,
}

/// When the packages are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// In a normal run: there will be another one.
    Run,
    /// While a package manager removes vfguard: there will be no other run.
    Removal,
}

/// Adjusts the marks to the hold: `held` is the kernel that the default is held on. Returns a line for each thing that was done or failed.
/// Starts no process without a hold, or if the packages are marked already.
pub fn follow(host: &Host, held: Option<&KernelRelease>, occasion: Occasion) -> Vec<String> {
    if !host.is_live() {
        return Vec::new();
    }
    let kept: Option<Kept> = host.read(RECORD).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let ended = kept.as_ref().filter(|kept| Some(&kept.kernel) != held);
    let wanted = held.map(|kernel| (kernel, apt::unprotected(host, kernel))).filter(|(_, packages)| !packages.is_empty());
    if ended.is_none() && wanted.is_none() {
        return Vec::new();
    }
    if let Some(lock) = locks::transaction(host).filter(|_| occasion == Occasion::Run) {
        let what = wanted.map_or("given back to", |_| "kept from");
        return vec![format!(
            "the held kernel's packages are not {what} autoremove yet: {lock} is locked; the next run tries again"
        )];
    }
    let mut done = Vec::new();
    if let Some(kept) = ended {
        let told = give_back(host, kept);
        let failed = told.is_err();
        done.extend(told.unwrap_or_else(|e| Some(format!("{e:#}; the next run tries again"))));
        if failed {
            return done;
        }
    }
    if let Some((kernel, packages)) = wanted {
        let before = kept.filter(|kept| kept.kernel == *kernel);
        done.push(protect(host, kernel, packages, before).unwrap_or_else(|e| format!("{e:#}; the next run tries again")));
    }
    done
}

/// The record is written first: a mark without a record would never be removed again.
fn protect(host: &Host, kernel: &KernelRelease, packages: Vec<String>, before: Option<Kept>) -> Result<String> {
    let mut kept = before.unwrap_or(Kept { kernel: kernel.clone(), packages: Vec::new() });
    kept.packages.extend(packages.iter().filter(|p| !kept.packages.contains(p)).cloned().collect::<Vec<_>>());
    let act = format!("keeping the packages of {kernel} from autoremove");
    host.write_atomic(RECORD, &serde_json::to_vec_pretty(&kept)?, 0o644).remedy(&act, by_hand("manual", &packages))?;
    mark("manual", &packages).remedy(act, by_hand("manual", &packages))?;
    Ok(format!("{} kept from autoremove while the default is held (apt-mark manual)", packages.join(", ")))
}

/// Removes our marks from packages that are still installed; those that a person has marked automatic since stay so.
fn give_back(host: &Host, kept: &Kept) -> Result<Option<String>> {
    let packages = apt::manual(host, &kept.packages);
    let act = format!("giving the packages of {} back to autoremove", kept.kernel);
    if !packages.is_empty() {
        mark("auto", &packages).remedy(&act, by_hand("auto", &packages))?;
    }
    host.remove_durably(RECORD).remedy(act, format!("rm {RECORD}"))?;
    let packages = packages.join(", ");
    Ok((!packages.is_empty()).then(|| format!("{packages} given back to autoremove (apt-mark auto): the hold has ended")))
}

fn by_hand(word: &str, packages: &[String]) -> String {
    format!("apt-mark {word} {}", packages.join(" "))
}

fn mark(word: &str, packages: &[String]) -> Result<()> {
    let args = ["-q", word].into_iter().chain(packages.iter().map(String::as_str));
    run_ok(&Spec::new("apt-mark", args, LIMIT)).map(drop)
}
