//! Where in a YAML text each value stands: JSON Pointer (RFC 6901) → line, column and width.
//!
//! The typed model carries no positions. Whoever finds something wrong names the value by its pointer, and
//! this map says where an operator finds it. Duplicate keys are found here too, because the YAML loader
//! keeps the last one silently.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, Span};

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters to underline, at least 1.
    pub width: usize,
}

/// Positions of every value of one document.
#[derive(Debug, Clone, Default)]
pub struct Positions {
    values: HashMap<String, Position>,
    keys: HashMap<String, Position>,
}

/// A key that stands twice in one mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateKey {
    /// Pointer to the value.
    pub pointer: String,
    /// The second occurrence.
    pub position: Position,
    /// Line of the first.
    pub first_line: usize,
}

impl Positions {
    /// Reads the positions of the first document in `text`. A syntax error ends the map early: the loader
    /// reports it.
    pub fn of(text: &str) -> (Self, Vec<DuplicateKey>) {
        Builder::default().run(text)
    }

    /// Where the value at `pointer` stands, or the nearest thing around it.
    pub fn value(&self, pointer: &str) -> Position {
        self.nearest(pointer, &self.values)
    }

    /// Where the key of the value at `pointer` stands; for items of a sequence, the item.
    pub fn key(&self, pointer: &str) -> Position {
        self.keys.get(pointer).copied().unwrap_or_else(|| self.nearest(pointer, &self.values))
    }

    /// Whether there is a value at `pointer`.
    pub fn contains(&self, pointer: &str) -> bool {
        self.values.contains_key(pointer)
    }

    /// Every value inside the one at `pointer`, itself included, with its pointer, unordered.
    pub fn inside(&self, pointer: &str) -> impl Iterator<Item = (&str, Position)> {
        let is_inside = move |other: &str| {
            other.strip_prefix(pointer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.values
            .iter()
            .map(|(pointer, position)| (&**pointer, *position))
            .filter(move |(other, _)| is_inside(other))
    }

    /// Whether the line may hold a secret: a key set, or what stands where a key's hash should.
    pub fn is_secret(&self, line: usize) -> bool {
        let secret = |pointer: &str| pointer.ends_with("/sha256") || pointer.contains("/jwks/inline");
        self.values.iter().any(|(pointer, position)| position.line == line && secret(pointer))
    }

    fn nearest(&self, mut pointer: &str, map: &HashMap<String, Position>) -> Position {
        loop {
            if let Some(position) = map.get(pointer) {
                return *position;
            }
            match pointer.rfind('/') {
                Some(end) => pointer = &pointer[..end],
                None => return Position { line: 1, column: 1, width: 1 },
            }
        }
    }
}

/// Appends one step to a pointer, escaped as RFC 6901 section 3 says.
pub fn join(pointer: &str, step: &str) -> String {
    format!("{pointer}/{}", step.replace('~', "~0").replace('/', "~1"))
}

enum Frame {
    Map { pointer: String, key: Option<(String, Position)> },
    Seq { pointer: String, index: usize },
}

#[derive(Default)]
struct Builder {
    stack: Vec<Frame>,
    positions: Positions,
    duplicates: Vec<DuplicateKey>,
}

impl Builder {
    fn run(mut self, text: &str) -> (Positions, Vec<DuplicateKey>) {
        let mut parser = Parser::new_from_str(text);
        while let Some(Ok((event, span))) = parser.next_event() {
            match event {
                Event::Scalar(text, ..) => self.scalar(&text, at(span)),
                Event::Alias(_) => {
                    self.value(at(span));
                }
                Event::MappingStart(..) => {
                    let pointer = self.value(at_start(span.start));
                    self.stack.push(Frame::Map { pointer, key: None });
                }
                Event::SequenceStart(..) => {
                    let pointer = self.value(at_start(span.start));
                    self.stack.push(Frame::Seq { pointer, index: 0 });
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    self.stack.pop();
                }
                Event::DocumentEnd => break,
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
            }
        }
        (self.positions, self.duplicates)
    }

    /// A key, or a value that is no collection.
    fn scalar(&mut self, text: &str, position: Position) {
        match self.stack.last_mut() {
            Some(Frame::Map { key: key @ None, .. }) => *key = Some((text.to_owned(), position)),
            _ => {
                self.value(position);
            }
        }
    }

    /// Takes note of a value that starts at `position`; returns its pointer.
    fn value(&mut self, position: Position) -> String {
        let pointer = match self.stack.last_mut() {
            None => String::new(),
            Some(Frame::Seq { pointer, index }) => {
                let child = format!("{pointer}/{index}");
                *index += 1;
                child
            }
            Some(Frame::Map { pointer, key }) => match key.take() {
                Some((name, key_position)) => {
                    let child = join(pointer, &name);
                    if let Some(first) = self.positions.keys.insert(child.clone(), key_position) {
                        self.duplicates.push(DuplicateKey {
                            pointer: child.clone(),
                            position: key_position,
                            first_line: first.line,
                        });
                    }
                    child
                }
                // A mapping or sequence as a key: the loader refuses it.
                None => {
                    *key = Some((String::from("?"), position));
                    return join(pointer, "?");
                }
            },
        };
        self.positions.values.insert(pointer.clone(), position);
        pointer
    }
}

fn at(span: Span) -> Position {
    let width = if span.start.line() == span.end.line() { span.len() } else { 1 };
    Position { width: width.max(1), ..at_start(span.start) }
}

fn at_start(marker: Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1, width: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_place() {
        let text = "a:\n  b: [x, {c: 1}]\n  d/e: \"q\"\n";
        let (positions, duplicates) = Positions::of(text);
        assert_eq!(duplicates, []);
        assert_eq!(positions.value("/a/b/0"), Position { line: 2, column: 7, width: 1 });
        assert_eq!(positions.value("/a/b/1/c"), Position { line: 2, column: 14, width: 1 });
        assert_eq!(positions.key("/a/b/1/c"), Position { line: 2, column: 11, width: 1 });
        assert_eq!(positions.value("/a/d~1e"), Position { line: 3, column: 8, width: 3 });
    }

    #[test]
    fn what_is_missing_is_placed_at_what_surrounds_it() {
        let (positions, _) = Positions::of("a:\n  b: 1\n");
        assert_eq!(positions.value("/a/missing/deep").line, 2);
        assert_eq!(positions.value("/nowhere").line, 1);
    }

    #[test]
    fn duplicate_keys_are_found_in_any_mapping() {
        let (_, duplicates) = Positions::of("a: {x: 1, y: 2, x: 3}\nb: 1\na: 2\n");
        let found: Vec<_> = duplicates.iter().map(|d| (d.pointer.as_str(), d.position.line)).collect();
        assert_eq!(found, [("/a/x", 1), ("/a", 3)]);
    }

    #[test]
    fn broken_text_ends_the_map_early() {
        let (positions, _) = Positions::of("a: 1\nb: [\n");
        assert!(positions.contains("/a"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC*") {
            Positions::of(&text);
        }
    }
}
