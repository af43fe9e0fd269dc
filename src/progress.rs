//! The interface by which a long step reports its progress; the report room shows it.

/// Called by a long step, from whichever thread it works in.
pub trait Progress: Sync {
    /// Something starts; `total` is its size if known (the other side may have lied about it).
    fn begin(&self, total: Option<u64>, what: &str);
    /// `n` more of it is done.
    fn advance(&self, n: u64);
    /// It has ended, successfully or not.
    fn end(&self);
    /// A message in the meantime: a retry, the next URL. Never contains a credential.
    fn note(&self, _text: &str) {}
}

/// Reports nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _total: Option<u64>, _what: &str) {}
    fn advance(&self, _n: u64) {}
    fn end(&self) {}
}
