//! One HTTP request: how reqwest is set up, and what the answers mean.

use super::names::Names;
use super::{Failure, Limits};
use crate::config::Fetch;
use crate::host::files::trust;
use crate::host::Host;
use anyhow::{anyhow, Context, Error, Result};
use reqwest::blocking::{Client, Response};
use reqwest::header::{HeaderMap, HeaderValue, ACCEPT_ENCODING, RETRY_AFTER};
use reqwest::redirect::{Attempt, Policy};
use reqwest::StatusCode;
use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

/// The number of redirects that are followed, roughly as in browsers. SourceForge needs three.
const MAX_REDIRECTS: usize = 10;

/// A client that is created when it is first needed: a machine that only fetches from files needs no certificates.
#[derive(Default)]
pub(super) struct Lazy(OnceCell<Result<Client, String>>);

impl Lazy {
    /// Sends a request. Returns the answer if it is the one that contains the archive.
    pub(super) fn get(&self, url: &reqwest::Url, host: &Host, config: &Fetch, limits: &Limits) -> Result<Response, Failure> {
        let client = self.0.get_or_init(|| client(host, config, limits).map_err(|e| format!("{e:#}")));
        let client = client.as_ref().map_err(|e| Failure::Next(anyhow!(e.clone())))?;
        let response = client.get(url.clone()).send().map_err(failure)?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        let error = anyhow!("the server says {status}");
        // 408, 425, 429 and 5xx mean "not now" (RFC 9110, RFC 8470, RFC 6585).
        if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
            Err(Failure::Again(error, retry_after(response.headers())))
        } else {
            Err(Failure::Next(error))
        }
    }
}

fn client(host: &Host, config: &Fetch, limits: &Limits) -> Result<Client> {
    // An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // No compression in transfer: the digest is of the bytes as they are stored.
    let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
    let builder = || {
        Client::builder()
            .user_agent(concat!("vfguard/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers.clone())
            .dns_resolver(Arc::new(Names::default()))
            .connect_timeout(limits.connect)
            .timeout(limits.stall)
            .pool_max_idle_per_host(0)
            .referer(false)
            .redirect(Policy::custom(redirect))
    };
    let mut own = Vec::new();
    if let Some(file) = &config.ca_file {
        let text = trust::read_text(&host.path(file), file)?;
        let act = || format!("reading the certificates in {}", file.display());
        own = reqwest::Certificate::from_pem_bundle(text.as_bytes()).with_context(act)?;
        anyhow::ensure!(!own.is_empty(), "{}: it holds none", act());
    }
    // Without any certificate plain HTTP still works; HTTPS then trusts no server.
    let trusting = builder().tls_certs_merge(own.clone()).build();
    trusting.or_else(|_| builder().tls_certs_only(own).build()).map_err(|e| told(&e).context("preparing TLS"))
}

fn redirect(attempt: Attempt) -> reqwest::redirect::Action {
    let from_https = attempt.previous().iter().any(|u| u.scheme() == "https");
    if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error(format!("more than {MAX_REDIRECTS} redirects"))
    } else if from_https && attempt.url().scheme() != "https" {
        attempt.error("a redirect from https to http")
    } else {
        attempt.follow()
    }
}

/// How to go on after an error before the body. A refused redirect and an untrusted certificate are final.
fn failure(error: reqwest::Error) -> Failure {
    let text = told(&error);
    if error.is_redirect() || error.is_builder() {
        return Failure::Next(text);
    }
    if chain(&error).any(is_tls) {
        return Failure::Next(text.context(
            "the TLS connection is not trusted (is ca-certificates installed? an own authority goes into fetch.ca_file)",
        ));
    }
    if error.is_connect() {
        return Failure::Unreached(text);
    }
    Failure::Again(text, None)
}

fn chain<'a>(error: &'a (dyn std::error::Error + 'static)) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |e| match e.downcast_ref::<std::io::Error>().and_then(|e| e.get_ref()) {
        // The source of an io::Error is the source of the error inside; the error inside is needed too.
        Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
        None => e.source(),
    })
}

/// Whether the server's certificate or protocol was rejected. A connection that broke during the handshake does not count.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<rustls::Error>()
}

/// An error with all its causes, without repetition and without the URL. The caller adds the URL, without credentials.
pub(super) fn told(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut parts: Vec<String> = Vec::new();
    for cause in chain(error) {
        let mut text = cause.to_string();
        if let Some(reqwest) = cause.downcast_ref::<reqwest::Error>() {
            // `error sending request for url (…)`
            if let (Some(_), Some(at)) = (reqwest.url(), text.find(" for url (")) {
                text.truncate(at);
            }
        }
        if !parts.iter().any(|p| p.contains(&text)) {
            parts.push(text);
        }
    }
    anyhow!(parts.join(": "))
}

/// The wait that `Retry-After` asks for: seconds or a date (RFC 9110, 10.2.3). The caller bounds it.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Duration::try_from(date.duration_since(jiff::Timestamp::now())).ok()
}
