//! Keeps credentials out of every message: user names, passwords and queries (which carry tokens) of URLs.

/// What ends a URL in a message.
fn ends(c: char) -> bool {
    c.is_whitespace() || c.is_control() || "\"'<>`()[]{}|\\^;,".contains(c)
}

/// A text in which no URL shows its user, password or query. A control character becomes a replacement character.
pub fn scrub(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let is_end = |c: char| "/?#".contains(c) || c.is_whitespace() || "\"'<>`".contains(c);
        // A password may hold what would end a URL, so the authority is cut generously.
        let authority = &after[..after.find(is_end).unwrap_or(after.len())];
        let host = authority.rfind('@').map(|i| i + 1);
        if host.is_some() {
            out.push_str("***@");
        }
        let tail = &after[host.unwrap_or(0)..];
        let end = tail.find(ends).unwrap_or(tail.len());
        match tail[..end].find(['?', '#']) {
            Some(query) => {
                out.push_str(&tail[..query]);
                out.push_str("?***");
            }
            None => out.push_str(&tail[..end]),
        }
        rest = &tail[end..];
    }
    out.push_str(rest);
    out.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::scrub;

    #[test]
    fn no_url_shows_its_user_password_or_query() {
        for (text, want) in [
            ("https://h/p", "https://h/p"),
            ("https://user:secret@h:8443/p?token=secret#secret", "https://***@h:8443/p?***"),
            ("https://secret@h", "https://***@h"),
            ("error for \"http://u:secret@h/\": refused", "error for \"http://***@h/\": refused"),
            ("a http://u:secret@h b https://v:sec@ret@h c", "a http://***@h b https://***@h c"),
            ("http://u:se;cr,et(@h/x", "http://***@h/x"),
            ("http://h/x?sig=secret; then http://h/y", "http://h/x?***; then http://h/y"),
            ("no url, user@example.org", "no url, user@example.org"),
            ("://secret@", "://***@"),
            ("\u{1b}[2J", "\u{fffd}[2J"),
        ] {
            assert_eq!(scrub(text), want);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_password_in_any_text_is_never_shown(before in "\\PC{0,20}", user in "[a-z]{0,5}", after in "\\PC{0,20}") {
            let shown = scrub(&format!("{before} https://{user}:S3CR3T@host/{after}"));
            assert!(!shown.contains("S3CR3T"), "{shown}");
        }
    }
}
