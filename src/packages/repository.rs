//! Which repositories offer a package, and their signature settings in dnf (dnf.conf(5)). dnf itself is asked, so that main settings,
//! overrides and variables such as `$releasever` have their effect.

use super::lists::{reason, Lists, DNF_LENIENT};
use crate::error::advise;
use anyhow::Result;
use std::path::PathBuf;

/// Printed before the name of a repository, so that a line of a warning is not taken for one.
const MARK: &str = "offered-by ";

/// The repositories that offer a package, together: it may come from any of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Repositories {
    /// Their names.
    pub(super) ids: Vec<String>,
    /// Whether none of them has its packages' signatures checked.
    pub(super) unchecked: bool,
    /// Files with their keys.
    pub(super) keys: Vec<PathBuf>,
    /// Keys that would have to be downloaded.
    pub(super) remote: Vec<String>,
}

impl std::fmt::Display for Repositories {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ids.as_slice() {
            [one] => write!(f, "repository {one}"),
            many => write!(f, "repositories {}", many.join(", ")),
        }
    }
}

impl Lists {
    /// The repositories that offer a package.
    ///
    /// # Errors
    /// If dnf does not name one, or does not show its settings.
    pub(super) fn repositories(&self, package: &str) -> Result<Repositories> {
        let format = format!("{MARK}%{{repoid}}\\n");
        let said = self.ask(self.dnf([DNF_LENIENT, "repoquery", "--qf", &format, package]))?;
        let ids = ids(&said.text);
        if !said.ok || ids.is_empty() {
            return Err(advise(
                format!("dnf does not say which repository {package} comes from: {}", reason(&said.text)),
                format!("dnf repoquery {package}"),
            ));
        }
        let mut all = Repositories { unchecked: true, ..Repositories::default() };
        for id in ids {
            all.add(&id, &self.settings(&id)?);
        }
        Ok(all)
    }

    /// The settings of a repository, one `KEY = VALUE` per line. dnf 4 and dnf 5 have different options for that.
    fn settings(&self, id: &str) -> Result<String> {
        let four = self.ask(self.dnf(["config-manager", "--dump", id]))?;
        if four.ok && value(&four.text, "baseurl").is_some() {
            return Ok(four.text);
        }
        let dump = format!("--dump-repo-config={id}");
        let five = self.ask(self.dnf([dump.as_str()]))?;
        if five.ok && value(&five.text, "baseurl").is_some() {
            return Ok(five.text);
        }
        Err(advise(
            format!("dnf does not tell the settings of repository {id}, so its keys are not known: {}", reason(&four.text)),
            "dnf install dnf-plugins-core",
        ))
    }
}

impl Repositories {
    fn add(&mut self, id: &str, settings: &str) {
        // dnf 5 calls it pkg_gpgcheck and also keeps the old name.
        let off = |key| value(settings, key).map(|v| matches!(v.to_lowercase().as_str(), "0" | "no" | "false" | "off"));
        let off: Vec<bool> = ["gpgcheck", "pkg_gpgcheck"].into_iter().filter_map(off).collect();
        self.unchecked &= !off.is_empty() && off.iter().all(|off| *off);
        let keys = value(settings, "gpgkey").unwrap_or_default();
        for key in keys.split([',', ' ', '\t', '"', '\'', '[', ']']).filter(|key| !key.is_empty()) {
            match key.strip_prefix("file:") {
                Some(path) => self.keys.push(format!("/{}", path.trim_start_matches('/')).into()),
                None => self.remote.push(key.to_owned()),
            }
        }
        self.ids.push(id.to_owned());
    }
}

/// The names of repositories in the answer to a query.
fn ids(text: &str) -> Vec<String> {
    let known = |id: &&str| !id.is_empty() && !id.starts_with('-') && !id.contains(char::is_whitespace);
    let mut ids: Vec<String> =
        text.lines().filter_map(|l| l.trim().strip_prefix(MARK)).filter(known).map(str::to_owned).collect();
    ids.sort();
    ids.dedup();
    ids
}

/// A setting in dnf's dump.
fn value<'a>(settings: &'a str, key: &str) -> Option<&'a str> {
    settings.lines().filter_map(|l| l.split_once('=')).find(|(k, _)| k.trim() == key).map(|(_, v)| v.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_unchecked_only_if_it_says_so_itself() {
        for (settings, unchecked) in [
            ("gpgcheck = 0\n", true),
            ("gpgcheck = False\n", true),
            ("gpgcheck = 1\n", false),
            ("pkg_gpgcheck = 0\n", true),
            ("gpgcheck = 0\npkg_gpgcheck = 1\n", false),
            ("repo_gpgcheck = 0\n", false),
            ("", false),
        ] {
            let mut all = Repositories { unchecked: true, ..Repositories::default() };
            all.add("a", settings);
            assert_eq!(all.unchecked, unchecked, "{settings}");
        }
        // Another repository offers the same package and checks it.
        let mut all = Repositories { unchecked: true, ..Repositories::default() };
        all.add("a", "gpgcheck = 0\n");
        all.add("b", "gpgcheck = 1\n");
        assert!(!all.unchecked);
        assert_eq!(all.to_string(), "repositories a, b");
    }

    #[test]
    fn keys_are_files_or_have_to_be_downloaded() {
        let mut all = Repositories::default();
        all.add("a", "gpgkey = file:///etc/pki/a, file:/etc/pki/b https://h/c\n");
        assert_eq!(all.keys, [PathBuf::from("/etc/pki/a"), PathBuf::from("/etc/pki/b")]);
        assert_eq!(all.remote, ["https://h/c"]);
    }

    #[test]
    fn a_warning_is_not_taken_for_a_repository() {
        assert_eq!(ids("Warning:x\noffered-by a\n-rf\noffered-by -rf\noffered-by a\noffered-by b\n"), ["a", "b"]);
    }
}
