//! Removes credentials from messages: user names, passwords and queries (which carry tokens) of URLs.

/// Characters that end a URL in a message.
fn ends(c: char) -> bool {
    c.is_whitespace() || c.is_control() || "\"'<>`()[]{}|\\^;,".contains(c)
}

/// The text with the user, password and query of each URL removed. A control character becomes a replacement character.
pub fn scrub(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let is_end = |c: char| "/?#".contains(c) || c.is_whitespace() || "\"'<>`".contains(c);
        // A password may contain characters that end a URL, so the authority extends as far as possible.
        let mut authority = &after[..after.find(is_end).unwrap_or(after.len())];
        let port = authority.rsplit_once(':').map_or("", |(_, port)| port.trim_end_matches(']'));
        if !authority.contains('@') && !port.bytes().all(|b| b.is_ascii_hexdigit()) {
            // Text other than a port number after the colon is a password with a slash in it.
            let word = |c: char| c.is_whitespace() || "\"'<>`".contains(c);
            authority = &after[..after.find(word).unwrap_or(after.len())];
        }
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
    bare(&out).replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

/// The same for a URL without a scheme: `user:password@host`.
fn bare(text: &str) -> String {
    let word = |word: &str| match word.rfind('@') {
        Some(at) if word[..at].contains(':') && !word.contains("://") => format!("***{}", &word[at..]),
        _ => word.to_owned(),
    };
    let pieces = text.split_inclusive(|c: char| c.is_whitespace() || "\"'<>`".contains(c));
    pieces.map(word).collect()
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
            ("https://scott:sec/ret@h/x", "https://***@h/x"),
            ("https://[::1]:443/@scope/x", "https://[::1]:443/@scope/x"),
            ("https://h:443/@scope/x", "https://h:443/@scope/x"),
            ("scott:secret@h", "***@h"),
            ("say \"scott:sec@ret@h/x\": no", "say \"***@h/x\": no"),
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
