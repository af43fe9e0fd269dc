//! Commands from tokens (GRUB's `grub-core/script/parser.y`).

use super::lexer::{tokens, Kind, Lexer, Part, Token, Word};
use crate::boot::grub2::script::budget::Budget;
use std::rc::Rc;

/// Deeper nesting than in any generated file; GRUB itself stops at a recursion of 100.
const MAX_DEPTH: usize = 60;
/// After this many mistakes the file is not taken for a script.
const MAX_MISTAKES: usize = 8;

/// A list of commands.
pub type Block = Rc<Vec<Command>>;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Words, perhaps with a block: `menuentry 'x' { … }`.
    Simple {
        /// The words.
        words: Vec<Word>,
        /// The block.
        block: Option<Block>,
        /// Its line.
        line: usize,
    },
    /// `if` … `elif` … `else` … `fi`.
    If {
        /// Each condition with its commands.
        arms: Vec<(Block, Block)>,
        /// After `else`.
        otherwise: Block,
    },
    /// `for x in …; do … done`.
    For {
        /// The variable.
        variable: String,
        /// Its values.
        words: Vec<Word>,
        /// The commands.
        body: Block,
        /// Its line.
        line: usize,
    },
    /// `while` or `until`.
    While {
        /// The condition.
        condition: Block,
        /// The commands.
        body: Block,
        /// Whether it is `until`.
        until: bool,
    },
    /// `function name { … }`.
    Function {
        /// Its name.
        name: String,
        /// The commands.
        body: Block,
    },
}

/// A mistake on a line. GRUB prints an error, drops the statement and continues, and so does [`parse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// What was found there.
    pub what: String,
}

/// The commands of a script, and the parts that were not understood. It ends where the budget does.
pub fn parse(script: &str, budget: &mut Budget) -> (Block, Vec<Mistake>) {
    let mut parser = Parser { tokens: tokens(script), budget, token: None, line: 1, at: 0, depth: 0 };
    parser.advance();
    parser.at = 0;
    let mut commands = Vec::new();
    let mut mistakes = Vec::new();
    loop {
        parser.skip_newlines();
        if parser.peek().is_none() {
            break;
        }
        let start = parser.at;
        match parser.statement().and_then(|c| parser.delimiter().map(|()| c)) {
            Ok(command) => commands.push(command),
            Err(mistake) => {
                mistakes.push(mistake);
                parser.recover(start);
                if mistakes.len() >= MAX_MISTAKES {
                    break;
                }
            }
        }
    }
    (Rc::new(commands), mistakes)
}

struct Parser<'s, 'b> {
    tokens: Lexer<'s>,
    budget: &'b mut Budget,
    /// The current token; none at the end.
    token: Option<Token>,
    /// Its line, or that of the last token.
    line: usize,
    /// The number of tokens before it.
    at: usize,
    depth: usize,
}

type Parsed<T> = Result<T, Mistake>;

impl Parser<'_, '_> {
    /// Returns the current token and moves to the next one.
    fn advance(&mut self) -> Option<Token> {
        let next = self.tokens.next().filter(|token| self.budget.spend(token.size()));
        self.line = next.as_ref().map_or(self.line, |token| token.line);
        self.at += 1;
        std::mem::replace(&mut self.token, next)
    }

    fn peek(&self) -> Option<&Kind> {
        self.token.as_ref().map(|t| &t.kind)
    }

    fn bare(&self) -> Option<&str> {
        self.token.as_ref().and_then(Token::bare)
    }

    /// The words up to the next token that is not a word.
    fn words(&mut self) -> Vec<Word> {
        let mut words = Vec::new();
        while matches!(self.peek(), Some(Kind::Word(_))) {
            if let Some(Token { kind: Kind::Word(word), .. }) = self.advance() {
                words.push(word);
            }
        }
        words.shrink_to_fit();
        words
    }

    fn mistake<T>(&self, what: &str) -> Parsed<T> {
        let what = match self.peek() {
            Some(Kind::Bad(bad)) => (*bad).to_owned(),
            _ => what.to_owned(),
        };
        Err(Mistake { line: self.line, what })
    }

    fn skip_newlines(&mut self) {
        while self.peek() == Some(&Kind::Newline) {
            self.advance();
        }
    }

    fn recover(&mut self, start: usize) {
        self.depth = 0;
        if self.at == start {
            self.advance();
        }
        while self.peek().is_some_and(|k| *k != Kind::Newline) {
            self.advance();
        }
    }

    /// `;` or the end of a line; the end of the file is accepted too.
    fn delimiter(&mut self) -> Parsed<()> {
        match self.peek() {
            None => Ok(()),
            Some(Kind::Newline | Kind::Semi) => {
                self.advance();
                Ok(())
            }
            _ => self.mistake("a ; or a new line is missing"),
        }
    }

    fn statement(&mut self) -> Parsed<Command> {
        if self.bare() != Some("function") {
            return self.command();
        }
        self.advance();
        let Some(name) = self.bare().map(str::to_owned) else { return self.mistake("a function without a name") };
        self.advance();
        self.skip_newlines();
        let Some(body) = self.block()? else { return self.mistake("a function without a body") };
        Ok(Command::Function { name, body })
    }

    fn block(&mut self) -> Parsed<Option<Block>> {
        if self.peek() != Some(&Kind::Open) {
            return Ok(None);
        }
        self.advance();
        let commands = self.commands(&[])?;
        if self.peek() != Some(&Kind::Close) {
            return self.mistake("a } is missing");
        }
        self.advance();
        Ok(Some(commands))
    }

    /// Commands up to one of the reserved words, a `}` or the end, none of which is consumed.
    fn commands(&mut self, ends: &[&str]) -> Parsed<Block> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.mistake("nested too deeply");
        }
        let mut commands = Vec::new();
        self.skip_newlines();
        while !matches!(self.peek(), None | Some(Kind::Close)) && !self.bare().is_some_and(|w| ends.contains(&w)) {
            commands.push(self.command()?);
            if !matches!(self.peek(), None | Some(Kind::Close)) {
                self.delimiter()?;
                self.skip_newlines();
            }
        }
        self.depth -= 1;
        if commands.is_empty() {
            return self.mistake("a command is missing");
        }
        Ok(Rc::new(commands))
    }

    fn expect(&mut self, word: &str) -> Parsed<()> {
        if self.bare() == Some(word) {
            self.advance();
            return Ok(());
        }
        self.mistake(&format!("'{word}' is missing"))
    }

    fn command(&mut self) -> Parsed<Command> {
        match self.bare() {
            Some("if") => self.conditional(),
            Some("for") => self.for_loop(),
            Some(word @ ("while" | "until")) => {
                let until = word == "until";
                self.advance();
                let condition = self.commands(&["do"])?;
                Ok(Command::While { condition, body: self.loop_body()?, until })
            }
            Some("case" | "do" | "done" | "elif" | "else" | "esac" | "fi" | "in" | "select" | "then" | "function") => {
                self.mistake("a reserved word where a command should be")
            }
            _ => self.simple(),
        }
    }

    fn conditional(&mut self) -> Parsed<Command> {
        self.advance();
        let mut arms = Vec::new();
        let mut otherwise = Block::default();
        loop {
            let condition = self.commands(&["then"])?;
            self.expect("then")?;
            arms.push((condition, self.commands(&["elif", "else", "fi"])?));
            if self.bare() == Some("elif") {
                self.advance();
                continue;
            }
            if self.bare() == Some("else") {
                self.advance();
                otherwise = self.commands(&["fi"])?;
            }
            self.expect("fi")?;
            return Ok(Command::If { arms, otherwise });
        }
    }

    fn for_loop(&mut self) -> Parsed<Command> {
        let line = self.line;
        self.advance();
        let Some(variable) = self.bare().map(str::to_owned) else { return self.mistake("a for without a variable") };
        self.advance();
        self.expect("in")?;
        let words = self.words();
        self.delimiter()?;
        self.skip_newlines();
        Ok(Command::For { variable, words, body: self.loop_body()?, line })
    }

    fn loop_body(&mut self) -> Parsed<Block> {
        self.expect("do")?;
        let body = self.commands(&["done"])?;
        self.expect("done")?;
        Ok(body)
    }

    fn simple(&mut self) -> Parsed<Command> {
        let line = self.line;
        let words = self.words();
        if words.is_empty() {
            return self.mistake("a command is missing");
        }
        Ok(Command::Simple { words, block: self.block()?, line })
    }
}

/// The first word of a command, if it needs no expansion.
pub fn name_of(words: &[Word]) -> Option<&str> {
    match words.first()?.as_slice() {
        [Part::Text(text)] => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(script: &str) -> (Block, Vec<Mistake>) {
        super::parse(script, &mut Budget::default())
    }

    #[test]
    fn a_generated_header_is_understood() {
        let (commands, mistakes) = parse(
            "set pager=1\n\nif [ -s $prefix/grubenv ]; then\n  load_env\nfi\nif [ \"${next_entry}\" ] ; then\n   set default=\"${next_entry}\"\nelif true; then :; else\n   set default=\"0\"\nfi\n\
             function savedefault {\n  if [ -z \"${boot_once}\" ]; then\n    save_env saved_entry\n  fi\n}\n\
             menuentry 'A' --class x $menuentry_id_option 'id' {\n\tload_video\n}\nsubmenu 'B' { menuentry 'C' { linux /x; }\n}\n",
        );
        assert_eq!(mistakes, []);
        assert_eq!(commands.len(), 6);
    }

    #[test]
    fn a_mistake_names_its_line_and_the_rest_is_read() {
        let (commands, mistakes) = parse("set a=1\nif [ x ]; then\nfi\nset b=2\n");
        assert_eq!(mistakes[0].line, 3);
        assert!(commands.iter().any(|c| matches!(c, Command::Simple { line: 4, .. })));
        let (_, mistakes) = parse("menuentry 'x' {\n  linux /a\n");
        assert_eq!(mistakes.len(), 1);
        assert_eq!(parse("set a=\"x").1[0].what, "a \" that is never closed");
    }

    #[test]
    fn deep_nesting_is_a_mistake_and_does_not_crash() {
        let (_, mistakes) = parse(&"if true; then ".repeat(100_000));
        assert!(!mistakes.is_empty());
        let (_, mistakes) = parse(&"menuentry x { ".repeat(100_000));
        assert!(!mistakes.is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC*") {
            parse(&text);
        }

        #[test]
        fn any_mix_of_signs_is_survived(text in "([ \\n;{}$'\"\\\\#\\[\\]a=<>|&]|if|then|fi|else|for|in|do|done|function|menuentry){0,200}") {
            parse(&text);
        }
    }
}
