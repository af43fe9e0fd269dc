//! Text for people, put together line by line, so that nothing foreign in it can act on a terminal or pose as a line of its own.
//!
//! What is told comes in part from elsewhere: the name of an interface, a module's version, a compiler's words, a file's name.
//! Each call that adds a line adds exactly one, and all of it is made printable there; only a colour's own sequences are put
//! around words that stand in this program.

pub mod redact;

/// A run of more spaces than this becomes one: enough of them would push what follows to the next row of a terminal.
const RUN: usize = 3;
/// Spaces at the beginning of a line are indentation, at most so many.
const INDENT: usize = 8;
/// What a character that cannot be shown is replaced by.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;
/// Letters and symbols that most fonts show as nothing: the fillers of Hangul, a Braille cell without dots.
const BLANK: [char; 5] = ['\u{115f}', '\u{1160}', '\u{2800}', '\u{3164}', '\u{ffa0}'];

/// Whether a character is shown as itself and does nothing else. Not so: control characters, format characters (the directions of
/// text, what has no width), separators of lines, spaces other than U+0020, combining marks (they draw over what stands before
/// them), and what Unicode has not assigned or leaves to private use.
pub fn is_printable(c: char) -> bool {
    // The standard library's Debug escapes just these, beside quotes and the backslash.
    matches!(c, '\'' | '"' | '\\') || (c.escape_debug().len() == 1 && !BLANK.contains(&c))
}

/// One line without anything that acts on a terminal. A run of white space that holds more than a few plain spaces becomes one.
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
    /// What is well.
    Green,
    /// What deserves a look.
    Yellow,
    /// What refuses; bold.
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

/// A word of this program's own, perhaps coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The word.
    pub word: &'static str,
    /// Its colour, where there are any.
    pub colour: Option<Colour>,
}

/// Text for people; each of its lines was made printable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// One line.
    pub fn of(line: &str) -> Text {
        let mut text = Text::default();
        text.line(line);
        text
    }

    /// A text of this program's own: help, the manual, a script. It keeps its lines and tabs.
    pub fn document(text: &str) -> Text {
        Text(text.chars().map(|c| if matches!(c, '\n' | '\t') || is_printable(c) { c } else { REPLACEMENT }).collect())
    }

    /// Adds exactly one line, whatever is in it.
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

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lines, each with its end.
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
    fn foreign_text_makes_no_line_of_its_own_and_pushes_nothing_to_the_next_row() {
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
    fn what_was_made_printable_stays_as_it_is() {
        for text in ["  a  b", "        x", "a \u{fffd} b", "", " "] {
            assert_eq!(printable(&printable(text)), printable(text));
            assert_eq!(printable(text), text);
        }
    }
}
