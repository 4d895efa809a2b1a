//! Whether what was observed is what a case expects: the same judgement for every runner.

use serde_json::Value;

use super::{Expect, Outcome, Seen};

/// What a runner saw of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Header fields of the request as the upstream got it; `None` where it got none.
    pub upstream: Option<Vec<(String, Vec<u8>)>>,
    /// Status of the response that the client got.
    pub status: u16,
    /// Its header fields.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Expect {
    /// Whether this is what was expected.
    ///
    /// # Errors
    ///
    /// What is wrong, in words, with what was seen instead.
    pub fn check(&self, observed: &Observed) -> Result<(), String> {
        match &self.outcome {
            Outcome::Passes => {
                let Some(upstream) = &observed.upstream else {
                    return Err(format!("should pass, but the client got {}", reply(observed)));
                };
                if observed.status != 200 {
                    return Err(format!(
                        "should pass on the upstream's 200, but the client got {}",
                        observed.status
                    ));
                }
                fields("the upstream", &self.upstream, upstream)?;
            }
            Outcome::Refused { status, code } => {
                if observed.upstream.is_some() {
                    return Err(format!("should be refused with {status} {code}, but reached the upstream"));
                }
                if observed.status != *status {
                    return Err(format!(
                        "should be refused with {status} {code}, but got {}",
                        reply(observed)
                    ));
                }
                problem(*status, code, observed)?;
            }
        }
        fields("the client", &self.client, &observed.headers)
    }
}

/// A refusal is a problem document (RFC 9457) that nobody may store.
fn problem(status: u16, code: &str, observed: &Observed) -> Result<(), String> {
    let document: Value = serde_json::from_slice(&observed.body)
        .map_err(|error| format!("the body is no JSON ({error}): {}", reply(observed)))?;
    if document["code"] != code || document["status"] != status || document["type"] != "about:blank" {
        return Err(format!("should be the problem {status} {code}, but is {document}"));
    }
    let expected = [
        ("content-type".to_owned(), Seen::Is(b"application/problem+json".to_vec())),
        ("cache-control".to_owned(), Seen::Is(b"no-store".to_vec())),
    ];
    fields("the client", &expected, &observed.headers)
}

fn fields(who: &str, expected: &[(String, Seen)], have: &[(String, Vec<u8>)]) -> Result<(), String> {
    for (name, seen) in expected {
        let values: Vec<&[u8]> = have
            .iter()
            .filter(|(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
            .collect();
        let good = match seen {
            Seen::Is(value) => values == [value.as_slice()],
            Seen::Contains(text) => {
                values.iter().any(|value| String::from_utf8_lossy(value).contains(text.as_str()))
            }
            Seen::Absent => values.is_empty(),
        };
        if !good {
            let values: Vec<String> = values.iter().map(|value| value.escape_ascii().to_string()).collect();
            return Err(format!("{who} should see {name} {}, but sees {values:?}", describe(seen)));
        }
    }
    Ok(())
}

fn describe(seen: &Seen) -> String {
    match seen {
        Seen::Is(value) => format!("once, as \"{}\"", value.escape_ascii()),
        Seen::Contains(text) => format!("with {text:?} in it"),
        Seen::Absent => "not at all".to_owned(),
    }
}

fn reply(observed: &Observed) -> String {
    format!("{} {}", observed.status, String::from_utf8_lossy(&observed.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> (String, Vec<u8>) {
        (name.to_owned(), value.into())
    }

    fn passed(headers: &[(String, Vec<u8>)]) -> Observed {
        Observed { upstream: Some(headers.to_vec()), status: 200, ..Observed::default() }
    }

    #[test]
    fn a_value_that_comes_twice_is_not_the_value() {
        let expect = Expect::passes().upstream("x-a", "1");
        assert_eq!(expect.check(&passed(&[field("X-A", "1")])), Ok(()));
        assert!(expect.check(&passed(&[field("x-a", "1"), field("x-a", "1")])).is_err());
        assert!(expect.check(&passed(&[])).is_err());
        assert!(expect.check(&Observed { status: 401, ..Observed::default() }).is_err());
    }

    #[test]
    fn a_refusal_is_a_problem_document() {
        let expect = Expect::refused(401, "invalid_token");
        let mut observed = Observed {
            status: 401,
            headers: vec![
                field("content-type", "application/problem+json"),
                field("cache-control", "no-store"),
            ],
            body: br#"{"type":"about:blank","status":401,"code":"invalid_token"}"#.to_vec(),
            upstream: None,
        };
        assert_eq!(expect.check(&observed), Ok(()));
        observed.body = b"{}".to_vec();
        assert!(expect.check(&observed).is_err());
        observed.upstream = Some(Vec::new());
        assert!(expect.check(&observed).is_err());
    }
}
