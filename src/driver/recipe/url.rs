//! The URLs of a release.

use crate::text::redact::scrub;

/// Checks that a URL can be fetched at all.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    parse_url(url).map(drop)
}

pub(in crate::driver) fn parse_url(url: &str) -> Result<reqwest::Url, String> {
    let parsed = reqwest::Url::parse(url).map_err(|e| format!("{:?}: {e}", scrub(url)))?;
    match parsed.scheme() {
        "http" | "https" if parsed.has_host() => Ok(parsed),
        "file" if parsed.host_str().is_none_or(str::is_empty) => Ok(parsed),
        "file" => Err(format!("{:?}: a file URL names no host (file:///path)", scrub(url))),
        other => Err(format!("{:?}: {other} is none of https, http and file", scrub(url))),
    }
}
