//! Rules for the short texts that callers send, shared by every field that is one.

use crate::error::Error;

/// One line for people: trimmed, 1 to `most` characters, no control characters.
///
/// # Errors
/// [`Error::Invalid`] naming `field`.
pub fn line(field: &'static str, text: &str, most: usize) -> Result<String, Error> {
    let text = text.trim();
    let length = text.chars().count();
    if length == 0 || length > most || text.chars().any(char::is_control) {
        return Err(Error::invalid(field, format!("must be one line of 1 to {most} characters")));
    }
    Ok(text.to_owned())
}

/// Text for people in any number of lines: up to `most` characters, no control characters but line ends and
/// tabs.
///
/// # Errors
/// [`Error::Invalid`] naming `field`.
pub fn paragraphs(field: &'static str, text: &str, most: usize) -> Result<String, Error> {
    let odd = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\r' | '\t');
    if text.chars().count() > most || text.chars().any(odd) {
        return Err(Error::invalid(field, format!("must be text of at most {most} characters")));
    }
    Ok(text.trim().to_owned())
}

/// A name for machines: 1 to 63 of `a-z`, `0-9` and `-`, starting with a letter, not ending with `-`: what is
/// also a DNS label (RFC 1035 section 2.3.1).
///
/// # Errors
/// [`Error::Invalid`] naming `field`.
pub fn slug(field: &'static str, text: &str) -> Result<String, Error> {
    let letters = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    let starts = text.starts_with(|first: char| first.is_ascii_lowercase());
    if !letters || !starts || text.ends_with('-') || text.len() > 63 {
        let rule = "must be 1 to 63 of a-z, 0-9 and '-', starting with a letter and not ending with '-'";
        return Err(Error::invalid(field, rule));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slugs_are_dns_labels() {
        for good in ["a", "petstore", "pet-store-2"] {
            assert!(slug("name", good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "2a", "A", "a_b", "a b", "ä", &"a".repeat(64)] {
            assert!(slug("name", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_are_trimmed_and_have_no_control_characters() {
        assert_eq!(line("name", "  Åsa B ", 10).ok().as_deref(), Some("Åsa B"));
        for bad in ["", "   ", "a\nb", "a\0b", "12345678901"] {
            assert!(line("name", bad, 10).is_err(), "{bad:?}");
        }
        assert_eq!(paragraphs("text", "a\n\tb", 10).ok().as_deref(), Some("a\n\tb"));
        assert!(paragraphs("text", "a\0", 10).is_err());
    }

    proptest! {
        #[test]
        fn a_line_once_accepted_is_accepted_unchanged(text in "\\PC{0,40}") {
            if let Ok(once) = line("name", &text, 30) {
                prop_assert_eq!(line("name", &once, 30).ok(), Some(once));
            }
        }
    }
}
