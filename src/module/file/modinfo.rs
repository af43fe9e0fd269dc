//! The `.modinfo` section: NUL-terminated `key=value` strings (`include/linux/moduleparam.h`, `MODULE_INFO`).

/// The values of a key, in order; the kernel takes the first.
pub(in crate::module) fn values<'m>(section: &'m [u8], key: &'m str) -> impl Iterator<Item = String> + 'm {
    let entries = section.split(|&b| b == 0);
    let values = entries.filter_map(move |entry| entry.strip_prefix(key.as_bytes())?.strip_prefix(b"="));
    values.map(|v| String::from_utf8_lossy(v).into_owned())
}

/// The first value of a key.
pub(in crate::module) fn value(section: &[u8], key: &str) -> Option<String> {
    values(section, key).next()
}

/// A comma-separated list.
pub(in crate::module) fn list(section: &[u8], key: &str) -> Vec<String> {
    let joined: Vec<String> = values(section, key).collect();
    let items = joined.iter().flat_map(|v| v.split(','));
    items.map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}
