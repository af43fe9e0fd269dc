//! The `.modinfo` section: `key=value` strings, each ended by NULs (`include/linux/moduleinfo`).

/// The values of a key, in order.
pub(super) fn values<'m>(section: &'m [u8], key: &str) -> Vec<&'m str> {
    section
        .split(|&b| b == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix(key)?.strip_prefix('='))
        .collect()
}

/// The first value of a key.
pub(super) fn value<'m>(section: &'m [u8], key: &str) -> Option<&'m str> {
    values(section, key).into_iter().next()
}

/// A comma-separated list.
pub(super) fn list(section: &[u8], key: &str) -> Vec<String> {
    let items = values(section, key).into_iter().flat_map(|v| v.split(','));
    items.map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}
