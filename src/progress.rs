//! How a long step tells how far it is; the report room shows it, nothing here knows how.

/// Told by a step that takes its time, from whichever thread it works in.
pub trait Progress: Sync {
    /// Something starts; `total` is its size where that is known (it may be a lie of the other side).
    fn begin(&self, total: Option<u64>, what: &str);
    /// `n` more of it is done.
    fn advance(&self, n: u64);
    /// It is over, well or not.
    fn end(&self);
    /// Something worth a line meanwhile: a retry, the next URL. Never holds a credential.
    fn note(&self, _text: &str) {}
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _total: Option<u64>, _what: &str) {}
    fn advance(&self, _n: u64) {}
    fn end(&self) {}
}
