//! Regular expressions that mean the same to Envoy's RE2 as here, where they are checked.

use std::str::FromStr;

use regex_syntax::ast::parse::Parser as AstParser;
use regex_syntax::ast::{self, Ast, ClassSetBinaryOp, Visitor};
use regex_syntax::hir::{Hir, HirKind};

/// How often RE2 repeats at most, all nested repetitions multiplied.
const MAX_REPEAT: u32 = 1_000;

/// A regular expression, matched against the whole value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regex {
    text: String,
    groups: usize,
}

impl Regex {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Capturing groups, not counting the whole.
    pub fn groups(&self) -> usize {
        self.groups
    }
}

impl FromStr for Regex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a regular expression may not be empty".into());
        }
        let wrong = |why: &str| format!("`{text}` is no regular expression that Envoy takes: {why}");
        let ast = AstParser::new().parse(text).map_err(|error| wrong(&error.kind().to_string()))?;
        ast::visit(&ast, OnlyRe2).map_err(wrong)?;
        let hir = regex_syntax::parse(text).map_err(|error| match error {
            regex_syntax::Error::Translate(error) => wrong(&error.kind().to_string()),
            _ => wrong("it can't be parsed"),
        })?;
        match repeats(&hir) {
            Some(repeats) if repeats <= MAX_REPEAT => {
                Ok(Self { text: text.to_owned(), groups: hir.properties().explicit_captures_len() })
            }
            _ => Err(wrong(&format!("it repeats more than {MAX_REPEAT} times"))),
        }
    }
}

/// How often anything in it is counted out at most. `*` and `+` count nothing out.
fn repeats(hir: &Hir) -> Option<u32> {
    match hir.kind() {
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(1);
            repeats(&repetition.sub)?.checked_mul(times)
        }
        HirKind::Capture(capture) => repeats(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(repeats).try_fold(1, |most, times| Some(most.max(times?)))
        }
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => Some(1),
    }
}

/// Refuses what RE2 lacks, or reads otherwise.
struct OnlyRe2;

impl Visitor for OnlyRe2 {
    type Output = ();
    type Err = &'static str;

    fn finish(self) -> Result<(), Self::Err> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        use ast::AssertionKind::{EndLine, EndText, NotWordBoundary, StartLine, StartText, WordBoundary};
        match ast {
            Ast::Flags(flags) => re2_flags(&flags.flags),
            Ast::Group(group) => group.flags().map_or(Ok(()), re2_flags),
            Ast::Literal(literal) => re2_literal(literal),
            Ast::ClassUnicode(class) => re2_class(class),
            Ast::Assertion(assertion) => match assertion.kind {
                StartLine | EndLine | StartText | EndText | WordBoundary | NotWordBoundary => Ok(()),
                _ => Err("RE2 has no \\b{start} and the like"),
            },
            _ => Ok(()),
        }
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), Self::Err> {
        match item {
            ast::ClassSetItem::Literal(literal) => re2_literal(literal),
            ast::ClassSetItem::Unicode(class) => re2_class(class),
            ast::ClassSetItem::Bracketed(_) => Err("RE2 has no class inside a class"),
            _ => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ClassSetBinaryOp) -> Result<(), Self::Err> {
        Err("RE2 has no set operations (&&, --, ~~) in a class")
    }
}

fn re2_flags(flags: &ast::Flags) -> Result<(), &'static str> {
    use ast::Flag::{CaseInsensitive, DotMatchesNewLine, MultiLine, SwapGreed};
    let known = |item: &ast::FlagsItem| match item.kind {
        ast::FlagsItemKind::Negation => true,
        ast::FlagsItemKind::Flag(flag) => {
            matches!(flag, CaseInsensitive | MultiLine | DotMatchesNewLine | SwapGreed)
        }
    };
    if flags.items.iter().all(known) { Ok(()) } else { Err("RE2 knows the flags i, m, s and U only") }
}

fn re2_literal(literal: &ast::Literal) -> Result<(), &'static str> {
    use ast::HexLiteralKind::X;
    match &literal.kind {
        ast::LiteralKind::HexFixed(X) | ast::LiteralKind::HexBrace(X) => Ok(()),
        ast::LiteralKind::HexFixed(_) | ast::LiteralKind::HexBrace(_) => Err("RE2 has no \\u: write \\x{…}"),
        _ => Ok(()),
    }
}

fn re2_class(class: &ast::ClassUnicode) -> Result<(), &'static str> {
    match class.kind {
        ast::ClassUnicodeKind::NamedValue { .. } => Err("RE2 has no \\p{name=value}"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_engines_take_is_taken() {
        for text in [
            "/items/[0-9]+",
            "(?i)abc",
            "a{1,1000}",
            "(a{30}){30}",
            "\\p{Greek}+",
            "\\x{e4}",
            "^a|b$",
            "[^/]+\\.png",
            "(?P<n>x)",
        ] {
            assert!(text.parse::<Regex>().is_ok(), "{text}");
        }
    }

    #[test]
    fn what_re2_refuses_or_reads_otherwise_is_refused() {
        for text in [
            "",
            "(",
            "a{1,2000}",
            "((a{30}){30}){30}",
            "(?x) a",
            "(?u)a",
            "(?R)a",
            "\\u0041",
            "\\p{sc=Greek}",
            "\\b{start}",
            "[a-z&&[^b]]",
            "[a[b]]",
            "(?=a)",
            "a{4294967295}{4294967295}",
        ] {
            assert!(text.parse::<Regex>().is_err(), "{text}");
        }
    }
}
