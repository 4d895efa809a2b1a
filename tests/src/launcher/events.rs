//! What of xds-server's log is worth a line on the terminal.

use crate::process::Entry;

/// One line for a push, a refused edit, a warning or an error; `None` for all else.
pub(super) fn describe(line: &str) -> Option<String> {
    let entry = Entry::parse(line)?;
    let field = |name: &str| entry.field(name);
    // What follows on further lines repeats the fields.
    let message = entry.message().lines().next().unwrap_or_default();
    if entry.says("configuration pushed") {
        let version = field("version").unwrap_or_default();
        let group = field("group").unwrap_or_else(|| "all".to_owned());
        return Some(format!("pushed   {version} to {group}{}", extras(&entry)));
    }
    let told = [("configuration rejected", "rejected"), ("configuration warning", "warning ")];
    if let Some((_, word)) = told.iter().find(|(message, _)| entry.says(message)) {
        let place: Vec<String> = ["file", "line", "column"].into_iter().filter_map(field).collect();
        let parts =
            [Some(place.join(":")).filter(|place| !place.is_empty()), field("problem"), field("help")];
        return Some(format!("{word} {}", parts.into_iter().flatten().collect::<Vec<_>>().join(": ")));
    }
    let is_trouble = ["ERROR", "WARN"].contains(&entry.level());
    is_trouble.then(|| format!("xds-server: {message}{}", extras(&entry)))
}

/// The fields that say how it went, as `name=value`.
fn extras(entry: &Entry) -> String {
    let names = ["proxies", "took_ms", "node", "url", "error", "reason", "pending"];
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
    fn a_refused_edit_says_where_and_what_would_be_right() {
        let line = r#"{"level":"ERROR","message":"configuration rejected; the last one serves\nerror: more",
            "file":"g.yaml","line":7,"column":3,"problem":"unknown field","help":"did you mean `to`?"}"#;
        let line = line.replace('\n', " ");
        assert_eq!(
            describe(&line).as_deref(),
            Some("rejected g.yaml:7:3: unknown field: did you mean `to`?")
        );
    }

    #[test]
    fn a_warning_says_where() {
        let line = r#"{"level":"WARN","message":"configuration warning; it is served\nmore","file":"g.yaml","line":7,
            "column":3,"problem":"a.key is not the key"}"#;
        let line = line.replace('\n', " ");
        assert_eq!(describe(&line).as_deref(), Some("warning  g.yaml:7:3: a.key is not the key"));
    }

    #[test]
    fn an_unreadable_file_is_reported_without_a_place() {
        let line =
            r#"{"level":"ERROR","message":"configuration rejected; …","problem":"g.yaml: no such file"}"#;
        assert_eq!(describe(line).as_deref(), Some("rejected g.yaml: no such file"));
    }

    #[test]
    fn trouble_is_shown_and_chatter_is_not() {
        let trouble = r#"{"level":"WARN","message":"cannot watch\nmore","error":"gone"}"#;
        assert_eq!(describe(trouble).as_deref(), Some("xds-server: cannot watch  error=gone"));
        assert_eq!(describe(r#"{"level":"INFO","message":"listening"}"#), None);
        assert_eq!(describe("no json"), None);
    }
}
