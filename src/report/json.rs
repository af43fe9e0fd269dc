//! The JSON of the contract: one object with `"schema": 1`; fields are added, never renamed.

use serde::Serialize;

/// The schema number of every object.
pub const SCHEMA: u32 = 1;

/// An object of the contract: `"schema": 1` before the fields of `body`.
#[derive(Serialize)]
struct Enveloped<'a, T: Serialize> {
    schema: u32,
    #[serde(flatten)]
    body: &'a T,
}

/// One object, on several lines as people who read it with `less` like it.
pub fn object<T: Serialize>(body: &T) -> String {
    serde_json::to_string_pretty(&Enveloped { schema: SCHEMA, body })
        .unwrap_or_else(|e| error(&format!("writing the report: {e}"), "report this as a defect"))
}

/// The object that stands for any error.
pub fn error(message: &str, remedy: &str) -> String {
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
    fn an_error_is_the_object_of_the_contract() {
        let value: serde_json::Value = serde_json::from_str(&super::error("m", "r")).unwrap();
        assert_eq!(value, serde_json::json!({"schema": 1, "error": {"message": "m", "remedy": "r"}}));
    }
}
