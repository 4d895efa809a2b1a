//! Envoy's runtime: feature flags and tunable values of its own, by key.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// Values by key, as Envoy's documentation names them: `envoy.reloadable_features.…`, `upstream.healthy_panic_threshold`.
pub type Runtime = BTreeMap<String, RuntimeValue>;

/// A value of Envoy's runtime: true or false, a number, a text, or `{numerator: 5, denominator: TEN_THOUSAND}`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected true or false, a number, a text, or {numerator: 5, denominator: TEN_THOUSAND}"
)]
pub enum RuntimeValue {
    /// A feature flag.
    Flag(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// A fraction of requests or connections.
    Percent(FractionalPercent),
}

/// A fraction of requests or connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FractionalPercent {
    /// So many.
    pub numerator: u32,
    /// Of so many. Default `HUNDRED`.
    #[serde(default)]
    pub denominator: Denominator,
}

/// What a fraction is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Denominator {
    /// 100.
    #[default]
    Hundred,
    /// 10000.
    TenThousand,
    /// 1000000.
    Million,
}

impl Denominator {
    /// Envoy's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hundred => "HUNDRED",
            Self::TenThousand => "TEN_THOUSAND",
            Self::Million => "MILLION",
        }
    }

    /// The number.
    pub fn get(self) -> u32 {
        match self {
            Self::Hundred => 100,
            Self::TenThousand => 10_000,
            Self::Million => 1_000_000,
        }
    }
}
