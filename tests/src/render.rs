//! The files in `envoy-configs/` on other ports, so that tests run what operators copy, beside a running stack.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use serde_yaml::Value;

use crate::ports::Ports;

/// An Envoy bootstrap with its ports replaced: every `port_value` that is one of the default ports.
pub fn bootstrap(text: &str, ports: &Ports) -> Result<String> {
    let mut document: Value = serde_yaml::from_str(text).context("the bootstrap is no YAML")?;
    replace_port_values(&mut document, &replacements(ports));
    serde_yaml::to_string(&document).context("writing the bootstrap")
}

/// An Envoy bootstrap whose cluster `xds-server` has these loopback ports as its endpoints, in place of its one.
pub fn with_replicas(text: &str, replicas: &[u16]) -> Result<String> {
    let mut document: Value = serde_yaml::from_str(text).context("the bootstrap is no YAML")?;
    let endpoints = document["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]
        .get_mut("lb_endpoints")
        .and_then(Value::as_sequence_mut)
        .context("the bootstrap's first cluster has no endpoints")?;
    let one = endpoints.first().context("the bootstrap's first cluster has no endpoint")?.clone();
    *endpoints = replicas
        .iter()
        .map(|port| {
            let mut endpoint = one.clone();
            endpoint["endpoint"]["address"]["socket_address"]["port_value"] = Value::from(*port);
            endpoint
        })
        .collect();
    serde_yaml::to_string(&document).context("writing the bootstrap")
}

/// Where the bootstraps have what Envoys show to xds-server.
const XDS_TLS: &str = "/etc/tollgate/xds";

/// An Envoy bootstrap with its lines for mTLS with xds-server uncommented, or one of the files that these name, with what
/// they read in that folder.
pub fn secured(text: &str, folder: &Path) -> Result<String> {
    let folder = folder.to_str().context("the folder is no text")?;
    let mut in_block = false;
    let uncommented = text.lines().map(|line| {
        let commented = line.trim_start().strip_prefix('#');
        // The block's first line has no space behind the #, as no prose has.
        in_block = commented.is_some_and(|rest| in_block || rest.starts_with("transport_socket:"));
        if in_block { line.replacen('#', "", 1) } else { line.to_owned() }
    });
    let lines: Vec<String> = uncommented.map(|line| line.replace(XDS_TLS, folder)).collect();
    Ok(lines.join("\n") + "\n")
}

/// An Envoy bootstrap whose node has these strings in its metadata.
pub fn labelled(text: &str, labels: &[(&str, &str)]) -> Result<String> {
    let mut document: Value = serde_yaml::from_str(text).context("the bootstrap is no YAML")?;
    let node =
        document.get_mut("node").and_then(Value::as_mapping_mut).context("the bootstrap has no node")?;
    let metadata = labels.iter().map(|(name, value)| (Value::from(*name), Value::from(*value))).collect();
    node.insert("metadata".into(), Value::Mapping(metadata));
    serde_yaml::to_string(&document).context("writing the bootstrap")
}

/// A gateway YAML with the loopback addresses replaced in its text, so that lines and columns stay as they are in the
/// original.
pub fn gateway(text: &str, ports: &Ports) -> String {
    const HOST: &str = "127.0.0.1:";
    let replacements = replacements(ports);
    let mut parts = text.split(HOST);
    let mut rendered = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (port, rest) = part.split_at(digits);
        let replaced = port.parse().ok().and_then(|port: u16| replacements.get(&port));
        let replaced = replaced.map_or_else(|| port.to_owned(), ToString::to_string);
        rendered.extend([HOST, &replaced, rest]);
    }
    rendered
}

fn replacements(ports: &Ports) -> BTreeMap<u16, u16> {
    let defaults = Ports::default().named();
    defaults.iter().zip(ports.named()).map(|((_, from), (_, to))| (*from, to)).collect()
}

fn replace_port_values(value: &mut Value, replacements: &BTreeMap<u16, u16>) {
    match value {
        Value::Mapping(mapping) => {
            for (key, value) in mapping.iter_mut() {
                let replaced = value.as_u64().and_then(|port| replacements.get(&u16::try_from(port).ok()?));
                match replaced {
                    Some(port) if key == "port_value" => *value = Value::from(*port),
                    _ => replace_port_values(value, replacements),
                }
            }
        }
        Value::Sequence(items) => items.iter_mut().for_each(|item| replace_port_values(item, replacements)),
        Value::Tagged(tagged) => replace_port_values(&mut tagged.value, replacements),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> Ports {
        Ports { edge: 20_001, xds_grpc: 20_002, ..Ports::default() }
    }

    #[test]
    fn only_port_values_that_are_default_ports_change() {
        let text = "a: [{ port_value: 18000, other: 18000 }, { port_value: 53 }]";
        let rendered: Value = serde_yaml::from_str(&bootstrap(text, &ports()).unwrap()).unwrap();
        let expected = "a: [{ port_value: 20002, other: 18000 }, { port_value: 53 }]";
        assert_eq!(rendered, serde_yaml::from_str::<Value>(expected).unwrap());
    }

    #[test]
    fn labels_are_the_nodes_metadata() {
        let text = labelled("node: { id: a }", &[("stage", "canary")]).unwrap();
        let rendered: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(rendered["node"]["metadata"]["stage"], "canary");
    }

    #[test]
    fn the_commented_transport_socket_becomes_one_and_prose_stays() {
        let text = "#   envoy -c x\na:\n  # In /etc/tollgate/xds.\n  #transport_socket:\n  #  c: /etc/tollgate/xds/d\n  e: 1\n";
        let secured = secured(text, Path::new("/x")).unwrap();
        assert_eq!(secured, "#   envoy -c x\na:\n  # In /x.\n  transport_socket:\n    c: /x/d\n  e: 1\n");
    }

    #[test]
    fn loopback_addresses_change_and_all_else_stays() {
        let text =
            "# ours\nx: 127.0.0.1:10000 # 10000\ny: [127.0.0.1:1000, 127.0.0.1:180000, \"127.0.0.1:\"]\n";
        let rendered = gateway(text, &ports());
        assert_eq!(rendered, text.replace("127.0.0.1:10000", "127.0.0.1:20001"));
    }
}
