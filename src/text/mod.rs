//! Text for people, built line by line, so that no foreign text in it can act on a terminal or look like a line of its own.
//!
//! Parts of a message come from elsewhere: the name of an interface, a module's version, a compiler's output, a file's name. Each call that
//! adds a line adds exactly one and makes all of it printable; only a colour's own sequences are put around words of this program.

pub mod redact;

/// A longer run of spaces becomes one space: enough of them would push the following text to the next row of a terminal.
const RUN: usize = 3;
/// Spaces at the beginning of a line are indentation, up to this number.
const INDENT: usize = 8;
/// The replacement for a character that cannot be shown.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;
/// Letters and symbols that most fonts show as blank: the fillers of Hangul, a Braille cell without dots.
const BLANK: [char; 5] = ['\u{115f}', '\u{1160}', '\u{2800}', '\u{3164}', '\u{ffa0}'];

/// Whether a character is shown as itself and has no other effect. These are not: control characters, format characters (text direction,
/// zero width), line separators, spaces other than U+0020, combining marks (they draw over the character before them), and characters that
/// Unicode has not assigned or leaves to private use.
pub fn is_printable(c: char) -> bool {
    // The standard library's `escape_debug` escapes exactly these, and also quotes and the backslash.
    matches!(c, '\'' | '"' | '\\') || (c.escape_debug().len() == 1 && !BLANK.contains(&c))
}

/// One line without anything that acts on a terminal. A run of white space that has more than a few plain spaces becomes one space.
pub fn printable(text: &str) -> String {
    let indent = text.len() - text.trim_start_matches(' ').len();
    let mut line = " ".repeat(indent.min(INDENT));
    let mut rest = &text[indent..];
    while let Some(c) = rest.chars().next() {
        let run = rest.len() - rest.trim_start_matches(char::is_whitespace).len();
        if run == 0 {
            line.push(if is_printable(c) { c } else { REPLACEMENT });
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let plain = run <= RUN && rest[..run].bytes().all(|b| b == b' ');
        line.push_str(if plain { &rest[..run] } else { " " });
        rest = &rest[run..];
    }
    line
}

/// A colour (ECMA-48 SGR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Good.
    Green,
    /// Needs attention.
    Yellow,
    /// Refuses; bold.
    Red,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Red => "31;1",
        }
    }
}

/// A word of this program's own, possibly coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The word.
    pub word: &'static str,
    /// Its colour, if any.
    pub colour: Option<Colour>,
}

/// Text for people; each of its lines is printable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// One line.
    pub fn of(line: &str) -> Text {
        let mut text = Text::default();
        text.line(line);
        text
    }

    /// A text of this program's own: help, the manual, a script. Its lines and tabs are kept.
    pub fn document(text: &str) -> Text {
        Text(text.chars().map(|c| if matches!(c, '\n' | '\t') || is_printable(c) { c } else { REPLACEMENT }).collect())
    }

    /// Adds exactly one line, whatever it contains.
    pub fn line(&mut self, line: &str) {
        self.0.push_str(printable(line).trim_end());
        self.0.push('\n');
    }

    /// Adds exactly one line with a word in the middle.
    pub fn line_with(&mut self, before: &str, word: Word, after: &str) {
        self.0.push_str(&printable(before));
        match word.colour {
            Some(colour) => {
                self.0.extend(["\u{1b}[", colour.code(), "m", word.word, "\u{1b}[0m"]);
            }
            None => self.0.push_str(word.word),
        }
        self.0.push_str(printable(after).trim_end());
        self.0.push('\n');
    }

    /// Adds all lines of another text.
    pub fn append(&mut self, other: &Text) {
        self.0.push_str(&other.0);
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lines, each with its newline.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_is_printable() {
        let acts =
            "\0\u{7}\u{1b}\u{7f}\u{9b}\u{85}\u{ad}\u{61c}\u{200b}\u{200d}\u{200e}\u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\
                    \u{2066}\u{2069}\u{feff}\u{fff9}\u{e0041}\u{e000}\u{fe0f}\u{336}\u{a0}\u{3000}\u{3164}\u{2800}";
        for c in acts.chars() {
            assert!(!is_printable(c), "{:?}", c);
            assert!(!printable(&format!("a{c}b")).contains(c), "{:?}", c);
        }
        let shown = "eth0 5.3.36-k \"a\" 'b' \\ ünïcödé 网络 сеть ✓ 😀 [34m";
        assert_eq!(printable(shown), shown);
        assert_eq!(printable("\u{1b}[32msafe"), "\u{fffd}[32msafe");
    }

    #[test]
    fn foreign_text_adds_no_line_and_pushes_nothing_to_the_next_row() {
        for end in ["\n", "\r\n", "\r", "\u{b}", "\u{c}", "\u{85}", "\u{2028}", "\u{2029}", "\t", "\u{a0}", "    "] {
            assert_eq!(printable(&format!("eth0{end}next: 6.1 is safe")), "eth0 next: 6.1 is safe", "{end:?}");
        }
        let mut text = Text::default();
        text.line("  module a\n\nverdict: safe\n");
        text.line_with("a\n", Word { word: "b", colour: None }, "\nc\n");
        assert_eq!(text.as_str(), "  module a verdict: safe\na b c\n");
        assert_eq!(printable(&" ".repeat(200)).len(), INDENT);
        assert_eq!(printable("vfguard:   to mend it"), "vfguard:   to mend it");
        assert_eq!(printable("one  two    three"), "one  two three");
    }

    #[test]
    fn only_a_word_of_ours_has_a_colour() {
        let mut text = Text::of("\u{1b}[32msafe\u{1b}[0m");
        text.line_with("is ", Word { word: "unsafe", colour: Some(Colour::Red) }, "");
        assert_eq!(text.as_str(), "\u{fffd}[32msafe\u{fffd}[0m\nis \u{1b}[31;1munsafe\u{1b}[0m\n");
    }

    #[test]
    fn printable_text_stays_as_it_is() {
        for text in ["  a  b", "        x", "a \u{fffd} b", "", " "] {
            assert_eq!(printable(&printable(text)), printable(text));
            assert_eq!(printable(text), text);
        }
    }
}
