//! Which folders must be watched to notice any change of a path, also when it leads through symbolic links
//! that are swapped (Kubernetes' `..data`, `current -> releases/7`).

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Links followed at most, as the kernel's `ELOOP` has it.
const MAX_LINKS: usize = 40;

/// The folder that holds the last part of `path` (or `path` itself where it is a folder), and the folders of
/// all links on the way.
pub(super) fn folders_to_watch(path: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let Ok(absolute) = std::path::absolute(path) else { return folders };
    follow(&absolute, MAX_LINKS, &mut folders);
    folders
}

fn follow(path: &Path, links_left: usize, folders: &mut BTreeSet<PathBuf>) {
    let mut walked = PathBuf::new();
    let mut components = path.components();
    while let Some(component) = components.next() {
        if component == Component::ParentDir {
            walked.pop();
            continue;
        }
        let folder = walked.clone();
        walked.push(component);
        if let Ok(target) = std::fs::read_link(&walked) {
            folders.insert(folder.clone());
            if links_left > 0 {
                follow(&folder.join(target).join(components.as_path()), links_left - 1, folders);
            }
            return;
        }
    }
    match walked.parent() {
        _ if walked.is_dir() => folders.insert(walked),
        Some(parent) => folders.insert(parent.to_owned()),
        None => false,
    };
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_plain_file_is_watched_by_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        assert_eq!(folders_to_watch(&root.join("a.yaml")), BTreeSet::from([root]));
    }

    #[test]
    fn every_link_on_the_way_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("releases/7")).unwrap();
        std::fs::write(root.join("releases/7/a.yaml"), "").unwrap();
        symlink("releases/7", root.join("current")).unwrap();
        symlink("current/a.yaml", root.join("a.yaml")).unwrap();
        assert_eq!(
            folders_to_watch(&root.join("a.yaml")),
            BTreeSet::from([root.clone(), root.join("releases/7")])
        );
    }

    #[test]
    fn links_in_a_circle_end() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        assert!(!folders_to_watch(&root.path().join("a")).is_empty());
    }
}
