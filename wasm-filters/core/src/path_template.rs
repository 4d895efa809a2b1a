//! Templates of paths, `/v1/orders/{id}`: whether a path is like one, and what stands in its braces.
//!
//! A path is compared segment by segment, decoded, so that `/v1/orders/%37` is not another order than `/v1/orders/7`. It is
//! the path that Envoy has normalised and that its route was chosen by. The query is no part of it.

use std::borrow::Cow;
use std::collections::BTreeSet;

/// A template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    segments: Vec<Segment>,
    /// Whether further segments may follow.
    open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// This text.
    Literal(Vec<u8>),
    /// Any, and it is a value.
    Value,
    /// Any.
    Any,
}

/// What is wrong with a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is no absolute path.
    #[error("a path template begins with `/`")]
    NoPath,
    /// It has a query or a fragment.
    #[error("a path template has neither `?` nor `#`: the query is no part of the path")]
    Query,
    /// Braces or stars are not a whole segment, or a name is none.
    #[error("a segment is text, `{{name}}` (letters, digits and `_`) or `*`, and the last may be `**`")]
    Segment,
    /// Two values of one name.
    #[error("two segments have the same name")]
    Twice,
}

impl PathTemplate {
    /// Reads a template. A segment is text, `{name}` or `*`; the last may be `**`, for any number of segments.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts: Vec<&str> = text.strip_prefix('/').ok_or(TemplateError::NoPath)?.split('/').collect();
        if text.contains(['?', '#']) {
            return Err(TemplateError::Query);
        }
        let open = parts.last() == Some(&"**");
        if open {
            parts.pop();
        }
        let mut names = BTreeSet::new();
        let segments = parts.into_iter().map(|part| {
            if part == "*" {
                return Ok(Segment::Any);
            }
            if let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
                return match (!name.is_empty() && name.chars().all(fits), names.insert(name)) {
                    (false, _) => Err(TemplateError::Segment),
                    (true, false) => Err(TemplateError::Twice),
                    (true, true) => Ok(Segment::Value),
                };
            }
            match part.contains(['{', '}', '*']) {
                true => Err(TemplateError::Segment),
                false => Ok(Segment::Literal(decoded(part.as_bytes()).into_owned())),
            }
        });
        Ok(Self { segments: segments.collect::<Result<_, _>>()?, open })
    }

    /// What stands in the braces, in order and decoded; `None` where `path` (as in `:path`) is not like the template.
    pub fn values<'p>(&self, path: &'p [u8]) -> Option<Vec<Cow<'p, [u8]>>> {
        let end = path.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
        let mut parts = path.get(..end)?.strip_prefix(b"/")?.split(|byte| *byte == b'/');
        let mut values = Vec::new();
        for segment in &self.segments {
            let part = decoded(parts.next()?);
            match segment {
                Segment::Literal(text) if *text == *part => {}
                Segment::Literal(_) => return None,
                Segment::Any | Segment::Value if part.is_empty() => return None,
                Segment::Any => {}
                Segment::Value => values.push(part),
            }
        }
        (self.open || parts.next().is_none()).then_some(values)
    }
}

/// Percent-encoded bytes as they are; a `%` that begins no code stays.
fn decoded(segment: &[u8]) -> Cow<'_, [u8]> {
    if !segment.contains(&b'%') {
        return Cow::Borrowed(segment);
    }
    let (mut out, mut rest) = (Vec::with_capacity(segment.len()), segment);
    while let Some((byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_stands_in_braces_is_found() {
        let cases: [(&str, &str, Option<&[&str]>); 20] = [
            ("/v1/orders/{id}", "/v1/orders/7", Some(&["7"])),
            ("/v1/orders/{id}", "/v1/orders/7?x=/y", Some(&["7"])),
            ("/v1/orders/{id}", "/v1/orders/7#y", Some(&["7"])),
            ("/v1/orders/{id}", "/v1/orders/%37", Some(&["7"])),
            ("/v1/orders/{id}", "/v1/%6frders/a%2Fb", Some(&["a/b"])),
            ("/v1/orders/{id}", "/v1/orders/100%", Some(&["100%"])),
            ("/v1/orders/{id}", "/v1/orders/%+1", Some(&["%+1"])),
            ("/v1/orders/{id}", "/v1/orders/", None),
            ("/v1/orders/{id}", "/v1/orders", None),
            ("/v1/orders/{id}", "/v1/orders/7/", None),
            ("/v1/orders/{id}", "/v1/orders/7/items", None),
            ("/v1/orders/{id}", "/v2/orders/7", None),
            ("/v1/orders/{id}", "*", None),
            ("/v1/orders/{id}/**", "/v1/orders/7/items/8", Some(&["7"])),
            ("/v1/orders/{id}/**", "/v1/orders/7", Some(&["7"])),
            ("/{tenant}/*/{id}", "/a/b/c", Some(&["a", "c"])),
            ("/{tenant}/*/{id}", "/a//c", None),
            ("/**", "/", Some(&[])),
            ("/", "/", Some(&[])),
            ("/", "/a", None),
        ];
        for (template, path, expected) in cases {
            let values = PathTemplate::parse(template).unwrap().values(path.as_bytes()).map(|values| {
                values.iter().map(|value| String::from_utf8(value.to_vec()).unwrap()).collect::<Vec<_>>()
            });
            let expected = expected.map(|values| values.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(values, expected, "{path} by {template}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        for (template, expected) in [
            ("", TemplateError::NoPath),
            ("v1", TemplateError::NoPath),
            ("/a?b={c}", TemplateError::Query),
            ("/a{b}", TemplateError::Segment),
            ("/{}", TemplateError::Segment),
            ("/{a-b}", TemplateError::Segment),
            ("/**/a", TemplateError::Segment),
            ("/a*", TemplateError::Segment),
            ("/{a}/{a}", TemplateError::Twice),
        ] {
            assert_eq!(PathTemplate::parse(template), Err(expected), "{template}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_survived(path in proptest::collection::vec(any::<u8>(), 0..100), template in ".{0,40}") {
            if let Ok(template) = PathTemplate::parse(&format!("/{template}")) {
                let _ = template.values(&path);
            }
        }
    }
}
