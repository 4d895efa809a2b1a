//! A route's conditions → RouteMatch.

use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher, RouteMatch};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

use crate::gateway::model::{Match, Method, PathMatch, ValueMatch};
use crate::translate::proto;

/// All conditions of a route.
pub(super) fn route_match(matches: &Match) -> RouteMatch {
    let path = match &matches.path {
        PathMatch::Exact(path) => PathSpecifier::Path(path.as_str().to_owned()),
        PathMatch::Prefix(path) => PathSpecifier::Prefix(path.as_str().to_owned()),
        PathMatch::Regex(regex) => PathSpecifier::SafeRegex(proto::regex(regex)),
    };
    let mut headers: Vec<HeaderMatcher> =
        matches.headers.iter().map(|(name, value)| header(name.as_str(), value)).collect();
    headers.extend(methods(&matches.methods));
    RouteMatch {
        path_specifier: Some(path),
        headers,
        query_parameters: matches.query.iter().map(|(name, value)| query(name, value)).collect(),
        ..RouteMatch::default()
    }
}

/// Any of `methods`; nothing where there are none.
fn methods(methods: &[Method]) -> Option<HeaderMatcher> {
    let pattern = match methods {
        [] => return None,
        [method] => MatchPattern::Exact(method.as_str().into()),
        several => {
            let names: Vec<&str> = several.iter().map(|method| method.as_str()).collect();
            let regex = envoy_types::pb::envoy::r#type::matcher::v3::RegexMatcher {
                regex: names.join("|"),
                engine_type: None,
            };
            MatchPattern::SafeRegex(regex)
        }
    };
    Some(HeaderMatcher {
        name: ":method".into(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(proto::string_matcher(pattern))),
        ..HeaderMatcher::default()
    })
}

fn header(name: &str, value: &ValueMatch) -> HeaderMatcher {
    let specifier = match value_matcher(value) {
        Ok(matcher) => HeaderMatchSpecifier::StringMatch(matcher),
        Err(present) => HeaderMatchSpecifier::PresentMatch(present),
    };
    HeaderMatcher { name: name.into(), header_match_specifier: Some(specifier), ..HeaderMatcher::default() }
}

fn query(name: &str, value: &ValueMatch) -> QueryParameterMatcher {
    let specifier = match value_matcher(value) {
        Ok(matcher) => QueryParameterMatchSpecifier::StringMatch(matcher),
        Err(present) => QueryParameterMatchSpecifier::PresentMatch(present),
    };
    QueryParameterMatcher { name: name.into(), query_parameter_match_specifier: Some(specifier) }
}

/// A string matcher, or `Err(present)` where only presence counts.
fn value_matcher(value: &ValueMatch) -> Result<StringMatcher, bool> {
    Ok(proto::string_matcher(match value {
        ValueMatch::Exact(text) => MatchPattern::Exact(text.clone()),
        ValueMatch::Prefix(text) => MatchPattern::Prefix(text.clone()),
        ValueMatch::Suffix(text) => MatchPattern::Suffix(text.clone()),
        ValueMatch::Contains(text) => MatchPattern::Contains(text.clone()),
        ValueMatch::Regex(regex) => MatchPattern::SafeRegex(proto::regex(regex)),
        ValueMatch::Present(present) => return Err(*present),
    }))
}
