//! Where desired state comes from: YAML files, the files that they name, issuers' keys and the filters' modules. What is
//! read here is only text and JSON; what it means is said in `gateway`.

pub mod file;
pub mod jwks;
pub mod key_store;
pub mod key_url;
mod links;
pub mod module;
pub mod referenced;
pub mod watch;
