//! Why a plugin configuration is refused, and where in it.
//!
//! Parsing and wording only; what is wrong is decided by the module that owns the field.

use std::fmt;

use serde::de::DeserializeOwned;

/// A mistake in the plugin configuration. Shows as `policies.consumers.any_of[0].realm: reason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Path of the field, as `serde_path_to_error` writes paths.
    pub path: String,
    /// What is wrong with it; holds no value of the configuration, since some are secrets.
    pub reason: String,
}

impl ConfigError {
    /// A mistake at `path`.
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

impl std::error::Error for ConfigError {}

/// Reads JSON into `T`, and says which field is wrong. Of the value itself only line and column are told:
/// serde's own messages quote it, and it could be key material.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, ConfigError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let what = match inner.classify() {
            serde_json::error::Category::Data => "has the wrong type or an unknown or missing field",
            serde_json::error::Category::Eof => "ends too early",
            _ => "is not JSON",
        };
        ConfigError::new(path, format!("{what} (line {}, column {})", inner.line(), inner.column()))
    })?;
    deserializer.end().map_err(|_| ConfigError::new(".", "has something after the JSON document"))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_filter_config::RateLimitConfig;

    #[test]
    fn error_says_where() {
        let json = br#"{"policies":{"p":{"limits":"many","headers":"always"}}}"#;
        let error = parse::<RateLimitConfig>(json).unwrap_err();
        assert_eq!(error.path, "policies.p.limits");
        assert!(error.reason.contains("line 1, column"), "{error}");
        assert!(!error.reason.contains("many"), "quotes the value: {error}");
    }

    #[test]
    fn trailing_text_is_refused() {
        assert!(parse::<RateLimitConfig>(br#"{"policies":{}} x"#).is_err());
        assert!(parse::<RateLimitConfig>(b"").is_err());
    }
}
