//! `envoy.type.matcher.v3.NodeMatcher` by node id: any of several, each one a string matcher.

use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{NodeMatcher, StringMatcher};
use regex::{Regex, RegexBuilder};
use tonic::Status;

/// Memory of one compiled expression, in bytes: peers write them.
const REGEX_BYTES: usize = 1 << 20;

/// Matchers of one request.
const MATCHERS: usize = 100;

/// Which nodes a request asks for; without a matcher, all.
#[derive(Debug)]
pub(super) struct NodeMatchers(Vec<Pattern>);

#[derive(Debug)]
enum Pattern {
    Any,
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Regex(Regex),
    /// One of the above, in lower case.
    IgnoreCase(Box<Pattern>),
}

impl NodeMatchers {
    /// # Errors
    /// For what is not understood, since leaving it out would match too much.
    pub fn new(matchers: &[NodeMatcher]) -> Result<NodeMatchers, Status> {
        if matchers.len() > MATCHERS {
            return Err(Status::invalid_argument(format!("more than {MATCHERS} node_matchers")));
        }
        matchers.iter().map(pattern).collect::<Result<_, _>>().map(NodeMatchers)
    }

    pub fn matches(&self, node_id: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| pattern.matches(node_id))
    }
}

fn pattern(matcher: &NodeMatcher) -> Result<Pattern, Status> {
    if !matcher.node_metadatas.is_empty() {
        return Err(Status::unimplemented("node_metadatas: the metadata of nodes is not kept"));
    }
    let Some(StringMatcher { match_pattern, ignore_case }) = &matcher.node_id else {
        return Ok(Pattern::Any);
    };
    let case = |text: &str| if *ignore_case { text.to_lowercase() } else { text.to_owned() };
    let pattern = match match_pattern {
        Some(MatchPattern::Exact(text)) => Pattern::Exact(case(text)),
        Some(MatchPattern::Prefix(text)) => Pattern::Prefix(case(text)),
        Some(MatchPattern::Suffix(text)) => Pattern::Suffix(case(text)),
        Some(MatchPattern::Contains(text)) => Pattern::Contains(case(text)),
        // As Envoy does it: the whole text, and `ignore_case` has no effect.
        Some(MatchPattern::SafeRegex(regex)) => {
            let regex = RegexBuilder::new(&format!("^(?:{})$", regex.regex)).size_limit(REGEX_BYTES).build();
            let refused = |error| Status::invalid_argument(format!("node_id.safe_regex: {error}"));
            return regex.map(Pattern::Regex).map_err(refused);
        }
        Some(MatchPattern::Custom(_)) => return Err(Status::unimplemented("node_id.custom")),
        None => return Err(Status::invalid_argument("node_id has no match_pattern")),
    };
    Ok(if *ignore_case { Pattern::IgnoreCase(pattern.into()) } else { pattern })
}

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Exact(pattern) => text == pattern,
            Pattern::Prefix(pattern) => text.starts_with(pattern),
            Pattern::Suffix(pattern) => text.ends_with(pattern),
            Pattern::Contains(pattern) => text.contains(pattern),
            Pattern::Regex(regex) => regex.is_match(text),
            Pattern::IgnoreCase(pattern) => pattern.matches(&text.to_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StructMatcher};
    use tonic::Code;

    use super::*;

    fn matcher(pattern: MatchPattern, ignore_case: bool) -> NodeMatcher {
        let node_id = Some(StringMatcher { ignore_case, match_pattern: Some(pattern) });
        NodeMatcher { node_id, node_metadatas: Vec::new() }
    }

    fn regex(text: &str) -> MatchPattern {
        MatchPattern::SafeRegex(RegexMatcher { regex: text.into(), ..Default::default() })
    }

    #[test]
    fn every_kind_of_string_matcher_is_honoured() {
        let cases = [
            (MatchPattern::Exact("edge-1".into()), &["edge-1"][..]),
            (MatchPattern::Prefix("edge-".into()), &["edge-1", "edge-12"]),
            (MatchPattern::Suffix("2".into()), &["edge-12"]),
            (MatchPattern::Contains("-1".into()), &["edge-1", "edge-12"]),
            (regex("edge-.|.*side.*"), &["edge-1", "side"]),
        ];
        for (pattern, expected) in cases {
            let matchers = NodeMatchers::new(&[matcher(pattern.clone(), false)]).unwrap();
            let found: Vec<_> =
                ["edge-1", "edge-12", "EDGE", "side"].into_iter().filter(|id| matchers.matches(id)).collect();
            assert_eq!(found, expected, "{pattern:?}");
        }
        let matchers = NodeMatchers::new(&[matcher(MatchPattern::Exact("Edge".into()), true)]).unwrap();
        assert!(matchers.matches("eDGE") && !matchers.matches("edge-1"));
    }

    #[test]
    fn any_of_several_matches_and_none_matches_all() {
        let matchers = ["a", "b"].map(|id| matcher(MatchPattern::Exact(id.into()), false));
        let matchers = NodeMatchers::new(&matchers).unwrap();
        assert!(matchers.matches("a") && matchers.matches("b") && !matchers.matches("c"));
        assert!(NodeMatchers::new(&[]).unwrap().matches("c"));
        assert!(NodeMatchers::new(&[NodeMatcher::default()]).unwrap().matches("c"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let metadata = NodeMatcher { node_id: None, node_metadatas: vec![StructMatcher::default()] };
        assert_eq!(NodeMatchers::new(&[metadata]).unwrap_err().code(), Code::Unimplemented);
        for wrong in ["(", "(?:a{1000}){1000}"] {
            let error = NodeMatchers::new(&[matcher(regex(wrong), false)]).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{wrong}");
        }
        let nothing = NodeMatcher { node_id: Some(StringMatcher::default()), node_metadatas: Vec::new() };
        assert_eq!(NodeMatchers::new(&[nothing]).unwrap_err().code(), Code::InvalidArgument);
        assert!(NodeMatchers::new(&vec![NodeMatcher::default(); MATCHERS + 1]).is_err());
    }
}
