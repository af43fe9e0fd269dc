//! Tokens of the script language (GRUB's `grub-core/script/yylex.l`).

use crate::boot::grub2::ITEM;

/// A piece of a word, by how it is quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Unquoted text.
    Text(String),
    /// Text between quotes; an argument even if empty.
    Quoted(String),
    /// `$name`; split at white space unless quoted.
    Variable {
        /// Its name.
        name: String,
        /// Whether it is between double quotes.
        quoted: bool,
    },
}

/// A word: its pieces, joined once variables are replaced.
pub type Word = Vec<Part>;

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The end of a line.
    Newline,
    /// `;`
    Semi,
    /// `{`
    Open,
    /// `}`
    Close,
    /// A word.
    Word(Word),
    /// Tokens that GRUB's grammar does not accept: `|`, `&`, `<`, `>`, `;;`, `[[`, an unfinished string…
    Bad(&'static str),
}

/// A token and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its line, from 1.
    pub line: usize,
}

impl Token {
    /// The memory that it takes.
    pub(in crate::boot::grub2::script) fn size(&self) -> usize {
        let Kind::Word(parts) = &self.kind else { return ITEM };
        let text = |part: &Part| match part {
            Part::Text(text) | Part::Quoted(text) => text.len(),
            Part::Variable { name, .. } => name.len(),
        };
        ITEM + parts.iter().map(|part| ITEM + text(part)).sum::<usize>()
    }

    /// The text of a word without quotes, escapes and variables: only such a word can be a reserved word or a name.
    pub fn bare(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(parts) => match parts.as_slice() {
                [Part::Text(text)] => Some(text),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The tokens of a script, one by one.
pub struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
}

/// Splits a script into tokens. Never fails: text that cannot be a token becomes [`Kind::Bad`].
pub fn tokens(script: &str) -> Lexer<'_> {
    Lexer { rest: script.chars().peekable(), line: 1 }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            let (c, line) = (*self.rest.peek()?, self.line);
            let kind = match c {
                ' ' | '\t' | '\r' => {
                    self.take();
                    continue;
                }
                '\n' => {
                    self.take();
                    Kind::Newline
                }
                '#' => {
                    while self.rest.peek().is_some_and(|&c| c != '\n') {
                        self.take();
                    }
                    continue;
                }
                '{' | '}' => {
                    self.take();
                    if c == '{' {
                        Kind::Open
                    } else {
                        Kind::Close
                    }
                }
                ';' => {
                    self.take();
                    if self.rest.next_if_eq(&';').is_some() {
                        Kind::Bad(";;")
                    } else {
                        Kind::Semi
                    }
                }
                '|' | '&' | '<' | '>' => {
                    self.take();
                    Kind::Bad("one of | & < >")
                }
                _ => match self.word() {
                    Some(kind) => kind,
                    None => continue,
                },
            };
            return Some(Token { kind, line });
        }
    }
}

impl Lexer<'_> {
    fn take(&mut self) -> Option<char> {
        let c = self.rest.next();
        if c == Some('\n') {
            self.line += 1;
        }
        c
    }

    /// None if there turns out to be no word.
    fn word(&mut self) -> Option<Kind> {
        let mut parts = Word::new();
        let mut bad = None;
        let mut escaped = false;
        let mut continued = false;
        while let Some(&c) = self.rest.peek() {
            match c {
                ' ' | '\t' | '\r' | '\n' | '{' | '}' | '|' | '&' | ';' | '<' | '>' => break,
                '\\' => {
                    self.take();
                    match self.take() {
                        Some('\n') => continued = true,
                        None => {}
                        Some(c) => {
                            escaped = true;
                            text(&mut parts, c);
                        }
                    }
                }
                '\'' => {
                    self.take();
                    let mut inside = String::new();
                    loop {
                        match self.take() {
                            Some('\'') => break,
                            Some(c) => inside.push(c),
                            None => {
                                bad = Some("a ' that is never closed");
                                break;
                            }
                        }
                    }
                    parts.push(Part::Quoted(inside));
                }
                '"' => {
                    self.take();
                    bad = bad.or(self.double_quoted(&mut parts));
                }
                '$' => {
                    self.take();
                    if self.rest.peek() == Some(&'"') {
                        continue;
                    }
                    match self.variable() {
                        Some(name) => parts.push(Part::Variable { name, quoted: false }),
                        None => bad = Some("a $ without a name"),
                    }
                }
                _ => {
                    self.take();
                    text(&mut parts, c);
                }
            }
        }
        // A word with an escape in it is never reserved; a second, empty piece records that. A continued line also makes a word, possibly
        // an empty one.
        if escaped || (continued && parts.is_empty()) {
            parts.push(Part::Text(String::new()));
        }
        if bad.is_none() && matches!(parts.as_slice(), [Part::Text(t)] if t == "[[" || t == "]]") {
            bad = Some("[[ or ]]");
        }
        // Most words have one piece, but `Vec` allocates room for four.
        parts.shrink_to_fit();
        match bad {
            Some(why) => Some(Kind::Bad(why)),
            None => (!parts.is_empty()).then_some(Kind::Word(parts)),
        }
    }

    fn double_quoted(&mut self, parts: &mut Word) -> Option<&'static str> {
        let mut inside = String::new();
        loop {
            match self.take() {
                None => return Some("a \" that is never closed"),
                Some('"') => {
                    parts.push(Part::Quoted(inside));
                    return None;
                }
                Some('\\') => match self.rest.peek() {
                    Some(&c @ ('$' | '\\' | '"')) => {
                        self.take();
                        inside.push(c);
                    }
                    Some('\n') => {
                        self.take();
                    }
                    _ => inside.push('\\'),
                },
                Some('$') => {
                    parts.push(Part::Quoted(std::mem::take(&mut inside)));
                    match self.variable() {
                        Some(name) => parts.push(Part::Variable { name, quoted: true }),
                        None => return Some("a $ without a name"),
                    }
                }
                Some(c) => inside.push(c),
            }
        }
    }

    /// After `$`: `name`, `123`, `?`, `#`, `*`, `@`, each also in braces.
    fn variable(&mut self) -> Option<String> {
        let braces = self.rest.next_if_eq(&'{').is_some();
        let mut name = String::new();
        match self.rest.peek().copied() {
            Some(c @ ('?' | '#' | '*' | '@')) => {
                self.take();
                name.push(c);
            }
            Some(c) if c.is_ascii_digit() => {
                while let Some(c) = self.rest.next_if(char::is_ascii_digit) {
                    name.push(c);
                }
            }
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                while let Some(c) = self.rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
            }
            _ => return None,
        }
        if braces && self.rest.next_if_eq(&'}').is_none() {
            return None;
        }
        Some(name)
    }
}

fn text(parts: &mut Word, c: char) {
    match parts.last_mut() {
        Some(Part::Text(text)) => text.push(c),
        _ => parts.push(Part::Text(c.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(script: &str) -> Vec<Word> {
        let word = |t: Token| match t.kind {
            Kind::Word(w) => Some(w),
            _ => None,
        };
        tokens(script).filter_map(word).collect()
    }

    #[test]
    fn quoted_text_and_variables_are_separate_pieces() {
        let var = |name: &str, quoted| Part::Variable { name: name.into(), quoted };
        assert_eq!(
            words("x\"${a}\"$b 'it $is' \"a\\$b\\\\\" c\\ d"),
            vec![
                vec![
                    Part::Text("x".into()),
                    Part::Quoted("".into()),
                    var("a", true),
                    Part::Quoted("".into()),
                    var("b", false)
                ],
                vec![Part::Quoted("it $is".into())],
                vec![Part::Quoted("a$b\\".into())],
                vec![Part::Text("c d".into()), Part::Text(String::new())],
            ]
        );
    }

    #[test]
    fn a_comment_starts_only_where_a_word_could() {
        assert_eq!(words("a#b # c\n#d\ne").len(), 2);
    }

    #[test]
    fn a_continued_line_is_a_word_by_itself_or_part_of_one() {
        assert_eq!(words("\\\n ;"), vec![vec![Part::Text(String::new())]]);
        assert_eq!(words("a\\\nb"), vec![vec![Part::Text("ab".into())]]);
    }

    #[test]
    fn lines_are_counted_through_strings() {
        assert_eq!(tokens("a 'x\ny'\nb").last().unwrap().line, 3);
    }
}
