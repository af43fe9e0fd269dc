//! The JSON of the contract: one object with `"schema": 1`; fields are added, never renamed.

use crate::print;
use crate::text::is_printable;
use serde::Serialize;
use std::fmt::Write;

/// The schema number of every object.
pub const SCHEMA: u32 = 1;

/// An object of the contract: `"schema": 1` before the fields of `body`.
#[derive(Serialize)]
struct Enveloped<'a, T: Serialize> {
    schema: u32,
    #[serde(flatten)]
    body: &'a T,
}

/// An object ready to print. Characters that could act on a terminal are escaped (RFC 8259, section 7); the data is the
/// same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(String);

impl Json {
    /// The object, without a line break at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Prints it to stdout, with a line break.
    pub fn print(&self) {
        print::raw(&format!("{}\n", self.0));
    }

    fn new(serialized: &str) -> Json {
        let mut text = String::with_capacity(serialized.len());
        for c in serialized.chars() {
            // Outside of strings JSON has only its own punctuation, spaces and line breaks; inside, line breaks are escaped
            // already.
            if c == '\n' || is_printable(c) {
                text.push(c);
            } else {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().for_each(|unit| {
                    let _ = write!(text, "\\u{unit:04x}");
                });
            }
        }
        Json(text)
    }
}

/// An object on several lines, for people who read it in a pager.
pub fn object<T: Serialize>(body: &T) -> Json {
    match serde_json::to_string_pretty(&Enveloped { schema: SCHEMA, body }) {
        Ok(text) => Json::new(&text),
        Err(e) => error(&format!("writing the report: {e}"), "report this as a defect"),
    }
}

/// The object for any error.
pub fn error(message: &str, remedy: &str) -> Json {
    #[derive(Serialize)]
    struct Body<'a> {
        error: Inner<'a>,
    }
    #[derive(Serialize)]
    struct Inner<'a> {
        message: &'a str,
        remedy: &'a str,
    }
    object(&Body { error: Inner { message, remedy } })
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_error_has_the_format_of_the_contract() {
        let value: serde_json::Value = serde_json::from_str(super::error("m", "r").as_str()).unwrap();
        assert_eq!(value, serde_json::json!({"schema": 1, "error": {"message": "m", "remedy": "r"}}));
    }

    #[test]
    fn terminal_control_characters_are_escaped_and_the_data_is_the_same() {
        let foreign = "a\u{1b}[2J\u{9b}1m\u{202e}\u{200b}\u{7f}\u{e0041}\u{2028}\n\t\"\\ ü 😀";
        let json = super::error(foreign, "");
        assert!(json.as_str().chars().all(|c| c == '\n' || super::is_printable(c)), "{}", json.as_str());
        let value: serde_json::Value = serde_json::from_str(json.as_str()).unwrap();
        assert_eq!(value["error"]["message"], foreign);
    }
}
