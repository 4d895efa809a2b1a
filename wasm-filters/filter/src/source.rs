//! What a rate limit's key is made of: the request as the auth filter leaves it, though its headers are changed only
//! once it is known that the request goes on.

use std::borrow::Cow;

use tollgate_filter_abi::{self as abi, Map};
use tollgate_filter_config::CONSUMER_HEADER;
use tollgate_filter_core::auth::Allowed;
use tollgate_filter_core::headers::{self, HeaderMap};
use tollgate_filter_core::parts::Route;
use tollgate_filter_core::rate_limit::KeySource;

/// A request after the decision of the auth filter.
pub enum Source<'a, 'h> {
    /// It was made here.
    Decided(&'a Route, &'a HeaderMap<'h>, &'a Allowed<'h>),
    /// Another filter made it, and its changes.
    AsItIs(&'a Route),
}

impl KeySource for Source<'_, '_> {
    fn consumer(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Decided(..) => self.header(CONSUMER_HEADER).into_iter().next(),
            // Set by the auth filter, so there is one at most, and one small call reads it.
            Self::AsItIs(_) => abi::header(Map::Request, CONSUMER_HEADER.as_bytes()).ok().map(Cow::Owned),
        }
    }

    fn claim(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Decided(_, _, allowed) => {
                allowed.identity.as_ref()?.claim(name).map(|claim| Cow::Borrowed(claim.as_bytes()))
            }
            // Another filter tells of no claims but in headers.
            Self::AsItIs(_) => None,
        }
    }

    fn header(&self, name: &str) -> Vec<Cow<'_, [u8]>> {
        match self {
            Self::Decided(_, headers, allowed) => {
                let set = allowed.identity.as_ref().and_then(|identity| identity.value(name.as_bytes()));
                if let Some(value) = set {
                    return vec![Cow::Borrowed(value.as_bytes())];
                }
                if allowed.remove.contains(&name.as_bytes()) {
                    return Vec::new();
                }
                headers::values(headers, name).map(Cow::Borrowed).collect()
            }
            Self::AsItIs(_) => {
                let pairs = abi::header_pairs(Map::Request).unwrap_or_default();
                let headers = headers::decode(&pairs).unwrap_or_default();
                headers::values(&headers, name).map(|value| Cow::Owned(value.to_vec())).collect()
            }
        }
    }

    fn client_address(&self) -> Vec<u8> {
        abi::property(b"source\0address").unwrap_or_default()
    }

    fn route_name(&self) -> Vec<u8> {
        let (Self::Decided(route, ..) | Self::AsItIs(route)) = self;
        route.name.as_bytes().to_vec()
    }
}
