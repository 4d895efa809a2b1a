//! What several answers share: pages and times.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::page::Page;

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub struct PageView<T> {
    /// The items.
    pub items: Vec<T>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> PageView<T> {
    /// Shows a page.
    pub fn of<D, K: Display>(page: Page<D, K>, view: impl Fn(D) -> T) -> Self {
        Self { items: page.items.into_iter().map(view).collect(), next: page.next.map(|key| key.to_string()) }
    }
}

/// Which page of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// `next` of the page before.
    pub after: Option<String>,
    /// Items at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
}

/// A time as RFC 3339 has it.
#[derive(Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = DateTime)]
pub struct Time(#[serde(with = "time::serde::rfc3339")] pub OffsetDateTime);
