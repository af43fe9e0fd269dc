//! Where an archive may be: the places of a release in their order, and the servers that are not asked again.

use crate::config::Fetch;
use crate::driver::recipe::url::parse_url;
use crate::driver::{Recipe, Release};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The failure of each place of an archive; found in the [`anyhow::Error`] with `downcast_ref`.
#[derive(Debug)]
pub struct NotFetched(pub(super) String);

impl std::fmt::Display for NotFetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotFetched {}

/// Servers that could not be reached in this run, after all attempts.
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

/// Mirrors first, with the archive's name appended; then the release's own URLs. No URL is listed twice.
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

/// The places of a release that are files of this machine.
pub fn files(config: &Fetch, recipe: &Recipe, release: &Release) -> Vec<PathBuf> {
    let urls = places(config, recipe, release).into_iter().filter_map(|url| parse_url(&url).ok());
    urls.filter(|url| url.scheme() == "file").filter_map(|url| url.to_file_path().ok()).collect()
}
