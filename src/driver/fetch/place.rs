//! Where an archive may be: the places of a release, in their order, and the servers that are not asked again.

use super::scrub;
use crate::config::Fetch;
use crate::driver::{Recipe, Release};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Whether a URL can be fetched from at all.
pub(in crate::driver) fn check_url(url: &str) -> Result<(), String> {
    parse_url(url).map(drop)
}

pub(super) fn parse_url(url: &str) -> Result<reqwest::Url, String> {
    let parsed = reqwest::Url::parse(url).map_err(|e| format!("{:?}: {e}", scrub(url)))?;
    match parsed.scheme() {
        "http" | "https" if parsed.has_host() => Ok(parsed),
        "file" if parsed.host_str().is_none_or(str::is_empty) => Ok(parsed),
        "file" => Err(format!("{:?}: a file URL names no host (file:///path)", scrub(url))),
        other => Err(format!("{:?}: {other} is none of https, http and file", scrub(url))),
    }
}

/// What each place of an archive said that does not have it; found in the [`anyhow::Error`] with `downcast_ref`.
#[derive(Debug)]
pub struct NotFetched(pub(super) String);

impl std::fmt::Display for NotFetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotFetched {}

/// Servers that could not be reached in this run, in as many attempts as are made.
#[derive(Debug, Default)]
pub struct Unanswered(RefCell<BTreeSet<String>>);

impl Unanswered {
    fn server(url: &reqwest::Url) -> Option<String> {
        Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
    }

    pub(super) fn note(&self, url: &reqwest::Url) {
        self.0.borrow_mut().extend(Unanswered::server(url));
    }

    pub(super) fn holds(&self, url: &reqwest::Url) -> bool {
        Unanswered::server(url).is_some_and(|server| self.0.borrow().contains(&server))
    }
}

/// Mirrors first, with the archive's name appended; then the release's own URLs. None twice.
pub(super) fn places(config: &Fetch, recipe: &Recipe, release: &Release) -> Vec<String> {
    let name = recipe.archive_name(release);
    let mirrors = config.mirrors.iter().map(|base| format!("{}/{name}", base.trim_end_matches('/')));
    let mut found: Vec<String> = Vec::new();
    for url in mirrors.chain(release.urls.iter().cloned()) {
        if !found.contains(&url) {
            found.push(url);
        }
    }
    found
}

/// The files of the machine among the places of a release.
pub fn files(config: &Fetch, recipe: &Recipe, release: &Release) -> Vec<PathBuf> {
    let urls = places(config, recipe, release).into_iter().filter_map(|url| parse_url(&url).ok());
    urls.filter(|url| url.scheme() == "file").filter_map(|url| url.to_file_path().ok()).collect()
}
