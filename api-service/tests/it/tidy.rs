//! What holds for the sources themselves.

use std::path::{Path, PathBuf};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        assert!(text.starts_with("//! "), "{}", path.display());
        assert!(text.lines().count() <= 500, "{} does more than one thing", path.display());
    }
}

#[test]
fn http_stays_at_the_edge_and_sql_in_its_store() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (path, text) in sources("src") {
        let place = path.strip_prefix(&source).unwrap().to_string_lossy().into_owned();
        let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let edge = place.starts_with("http") || ["application.rs", "server.rs"].contains(&place.as_str());
        assert!(edge || !code.contains("axum::"), "axum in {place}");
        assert!(place.starts_with("store/sqlite") || !code.contains("sqlx::"), "sqlx in {place}");
    }
}
