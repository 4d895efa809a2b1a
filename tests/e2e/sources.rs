//! Every way in which a YAML changes on disk is noticed: as editors save, as Kubernetes mounts, one file or several.

use std::{fs, os::unix::fs::symlink, path::Path};

use tollgate_tests::{
    gateway::{Gateway, replace},
    ports::Ports,
};

use crate::yaml::{self, Edge};

fn yaml_with(path: &str, ports: &Ports) -> String {
    Edge::with_routes([&yaml::prefix(path, "a")]).text(ports)
}

#[test]
fn a_file_renamed_over_and_a_file_written_in_place_are_noticed() {
    let gateway = Gateway::edge_only("rename", |ports| yaml_with("/first", ports)).unwrap();
    let (path, ports) = (gateway.yaml_path().to_owned(), *gateway.ports());
    gateway.wait_for_status("/first", 200).unwrap();
    replace(&path, &yaml_with("/renamed", &ports)).unwrap();
    gateway.wait_for_status("/renamed", 200).unwrap();
    fs::write(&path, yaml_with("/in-place", &ports)).unwrap();
    gateway.wait_for_status("/in-place", 200).unwrap();
    // As vim does: the old file moves away, a new one is written.
    fs::rename(&path, path.with_extension("yaml~")).unwrap();
    fs::write(&path, yaml_with("/anew", &ports)).unwrap();
    gateway.wait_for_status("/anew", 200).unwrap();
    gateway.wait_for_status("/in-place", 404).unwrap();
}

/// `gateway.yaml -> ..data/gateway.yaml`, `..data -> ..1`: what a mounted ConfigMap looks like.
fn publish(folder: &Path, version: &str, text: &str) {
    let versioned = folder.join(version);
    fs::create_dir(&versioned).unwrap();
    fs::write(versioned.join("gateway.yaml"), text).unwrap();
    symlink(version, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

fn config_map(name: &str, serve_folder: bool) -> Gateway {
    Gateway::edge_only_from(name, |folder, ports| {
        publish(folder, "..1", &yaml_with("/first", ports));
        let file = folder.join("gateway.yaml");
        symlink("..data/gateway.yaml", &file)?;
        Ok(if serve_folder { folder.to_owned() } else { file })
    })
    .unwrap()
}

#[test]
fn a_symlink_swap_is_noticed() {
    let gateway = config_map("symlink", false);
    let folder = gateway.yaml_path().parent().unwrap();
    gateway.wait_for_status("/first", 200).unwrap();
    for (version, path) in [("..2", "/second"), ("..3", "/third")] {
        publish(folder, version, &yaml_with(path, gateway.ports()));
        gateway.wait_for_status(path, 200).unwrap();
    }
    gateway.wait_for_status("/first", 404).unwrap();
}

#[test]
fn a_mounted_folder_counts_each_file_once() {
    let gateway = config_map("mounted", true);
    gateway.wait_for_status("/first", 200).unwrap();
    publish(gateway.yaml_path(), "..2", &yaml_with("/second", gateway.ports()));
    gateway.wait_for_status("/second", 200).unwrap();
}

#[test]
fn several_files_changed_at_once_are_one_configuration() {
    // Routes in one file, clusters in another: neither is right without the other.
    let split = |text: &str| {
        let at = text.find("clusters:").unwrap();
        (text[..at].to_owned(), format!("version: v1\n{}", &text[at..]))
    };
    let renamed = |to: &str, ports: &Ports| {
        let text = Edge::with_routes([&yaml::prefix("/folder", to)]).text(ports);
        split(&text.replace("  a: {", &format!("  {to}: {{")))
    };
    let gateway = Gateway::edge_only_from("folder", |folder, ports| {
        let (routes, clusters) = renamed("first", ports);
        fs::write(folder.join("10-routes.yaml"), routes)?;
        fs::write(folder.join("20-clusters.yml"), clusters)?;
        fs::write(folder.join("README.txt"), "no YAML: passed over")?;
        Ok(folder.to_owned())
    })
    .unwrap();
    gateway.wait_for_status("/folder", 200).unwrap();
    let mark = gateway.xds_log_end().unwrap();

    let (routes, clusters) = renamed("second", gateway.ports());
    replace(&gateway.yaml_path().join("10-routes.yaml"), &routes.replace("/folder", "/second")).unwrap();
    fs::write(gateway.yaml_path().join("20-clusters.yml"), clusters).unwrap();
    gateway.wait_for_status("/second", 200).unwrap();
    gateway.wait_for_entry("configuration pushed", mark).unwrap();

    // A file that comes, and one that goes.
    fs::write(gateway.yaml_path().join("11-routes.yaml"), routes.replace("/folder", "/third")).unwrap();
    fs::remove_file(gateway.yaml_path().join("10-routes.yaml")).unwrap();
    gateway.wait_for_status("/third", 200).unwrap();
    gateway.wait_for_status("/second", 404).unwrap();
}
