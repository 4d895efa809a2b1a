//! What of xds-server's log is worth a line on the terminal.

use crate::process::Entry;

/// One line for a push, a refused edit, or an error; `None` for all else.
pub(super) fn describe(line: &str) -> Option<String> {
    let entry = Entry::parse(line)?;
    let field = |name: &str| entry.field(name);
    match entry.message() {
        "configuration pushed" => {
            let version = field("version").unwrap_or_default();
            let group = field("group").unwrap_or_else(|| "all".to_owned());
            Some(format!("pushed   {version} to {group}{}", extras(&entry)))
        }
        "configuration rejected" => {
            let place: Vec<String> = ["file", "line", "column"].into_iter().filter_map(field).collect();
            let reason = field("error").or_else(|| field("reason")).unwrap_or_default();
            Some(format!("rejected {}: {reason}", place.join(":")))
        }
        message if entry.level() == "ERROR" => Some(format!("xds-server: {message}{}", extras(&entry))),
        _ => None,
    }
}

/// The fields that say how it went, as `name=value`.
fn extras(entry: &Entry) -> String {
    let names = ["proxies", "elapsed_ms", "took_ms", "error", "reason"];
    names.iter().filter_map(|name| Some(format!("  {name}={}", entry.field(name)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_one_line() {
        let line = r#"{"level":"INFO","message":"configuration pushed","version":"5f2c","group":"edge","proxies":1}"#;
        assert_eq!(describe(line).as_deref(), Some("pushed   5f2c to edge  proxies=1"));
    }

    #[test]
    fn a_refused_edit_says_where() {
        let line = r#"{"level":"WARN","message":"configuration rejected","file":"g.yaml","line":7,"column":3,"error":"unknown field"}"#;
        assert_eq!(describe(line).as_deref(), Some("rejected g.yaml:7:3: unknown field"));
    }

    #[test]
    fn errors_are_shown_and_chatter_is_not() {
        let error = r#"{"level":"ERROR","message":"cannot watch","error":"gone"}"#;
        assert_eq!(describe(error).as_deref(), Some("xds-server: cannot watch  error=gone"));
        assert_eq!(describe(r#"{"level":"INFO","message":"listening"}"#), None);
        assert_eq!(describe("no json"), None);
    }
}
