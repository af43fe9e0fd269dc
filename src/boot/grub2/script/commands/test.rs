//! `[ … ]` (GRUB's `grub-core/commands/test.c`): read left to right, `-a` binds tighter than `-o`, a bare word is true unless
//! empty.

use crate::boot::grub2::script::eval::Machine;
use crate::boot::grub2::script::matching::strtoul;

/// GRUB's own bound for `( … )`.
const MAX_DEPTH: usize = 100;

#[derive(Default)]
struct Value {
    invert: bool,
    or: bool,
    and: bool,
}

impl Value {
    fn update(&mut self, value: bool) {
        self.and = self.and && (value != self.invert);
        self.invert = false;
    }
}

/// Evaluates the words between `[` and `]`.
pub(in crate::boot::grub2::script) fn test(machine: &mut Machine, words: &[String]) -> bool {
    let words = match words.split_last() {
        Some((last, rest)) if last == "]" => rest,
        _ => words,
    };
    let mut at = 0;
    expression(machine, words, &mut at, 0)
}

fn expression(machine: &mut Machine, words: &[String], at: &mut usize, depth: usize) -> bool {
    let mut value = Value { and: true, ..Value::default() };
    while let Some(word) = words.get(*at) {
        if let (Some(operator), Some(right)) = (words.get(*at + 1), words.get(*at + 2)) {
            if let Some(result) = binary(machine, word, operator, right) {
                value.update(result);
                *at += 3;
                continue;
            }
        }
        if let Some(operand) = words.get(*at + 1) {
            if let Some(result) = unary(machine, word, operand) {
                value.update(result);
                *at += 2;
                continue;
            }
        }
        *at += 1;
        match word.as_str() {
            ")" => return value.or || value.and,
            "(" if depth < MAX_DEPTH => {
                let inner = expression(machine, words, at, depth + 1);
                value.update(inner);
            }
            "!" => value.invert = !value.invert,
            "-a" => {}
            "-o" => {
                value.or |= value.and;
                value.and = true;
            }
            word => value.update(!word.is_empty()),
        }
    }
    value.or || value.and
}

fn number(word: &str) -> i64 {
    match word.strip_prefix('-') {
        Some(rest) => -(strtoul(rest).value as i64),
        None => strtoul(word).value as i64,
    }
}

fn binary(machine: &mut Machine, left: &str, operator: &str, right: &str) -> Option<bool> {
    Some(match operator {
        "=" | "==" => left == right,
        "!=" => left != right,
        "<" => left < right,
        "<=" => left <= right,
        ">" => left > right,
        ">=" => left >= right,
        "-eq" => number(left) == number(right),
        "-ne" => number(left) != number(right),
        "-lt" => number(left) < number(right),
        "-le" => number(left) <= number(right),
        "-gt" => number(left) > number(right),
        "-ge" => number(left) >= number(right),
        "-pgt" | "-plt" => {
            let (a, b) = after_common_prefix(left, right);
            let (a, b) = (strtoul(a).value, strtoul(b).value);
            if operator == "-pgt" {
                a > b
            } else {
                a < b
            }
        }
        _ if operator.starts_with("-nt") || operator.starts_with("-ot") => {
            machine.doubt(format!("a test of file times ({operator})"), "compare no times of files in grub.cfg");
            false
        }
        _ => return None,
    })
}

/// Both words after their common prefix, but from the start of the number that differs.
fn after_common_prefix<'a>(left: &'a str, right: &'a str) -> (&'a str, &'a str) {
    let same = left.bytes().zip(right.bytes()).take_while(|(a, b)| a == b).count();
    let digits = left.as_bytes()[..same].iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let cut = same - digits;
    (left.get(cut..).unwrap_or_default(), right.get(cut..).unwrap_or_default())
}

fn unary(machine: &mut Machine, operator: &str, operand: &str) -> Option<bool> {
    let host = machine.world.host;
    let mut found = || machine.locate(operand);
    Some(match operator {
        "-d" => found().is_some_and(|p| host.is_dir(p)),
        "-e" => found().is_some(),
        "-f" => found().is_some_and(|p| !host.is_dir(p)),
        "-s" => found().is_some_and(|p| machine.has_content(&p)),
        "-n" => !operand.is_empty(),
        "-z" => operand.is_empty(),
        _ => return None,
    })
}
