//! Any text as a gateway: it is loaded and translated, or refused with a report that can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xds_server::gateway::{SourceFile, load};
use std::time::Duration;
use xds_server::translate::{KeySets, Modules, QuotaService, Target, check, translate};

fuzz_target!(|text: &str| {
    let file = SourceFile { path: "gateway.yaml".into(), text: text.to_owned() };
    let loaded = match load(vec![file]) {
        Ok(loaded) => loaded,
        Err(report) => {
            assert!(!report.problems.is_empty(), "refused without a reason");
            report.problems.iter().for_each(|problem| assert!(problem.line >= 1 && problem.column >= 1));
            assert!(!report.to_string().is_empty());
            return;
        }
    };
    let (gateway, keys) = (&loaded.gateway, KeySets::default());
    for problem in check(gateway, &keys) {
        assert!(loaded.source_map.locate(problem).is_some(), "a problem without a place");
    }
    let modules = Modules::Folder("/wasm".into());
    let address = "127.0.0.1:18002".parse().expect("an address");
    let quota = QuotaService { address, timeout: Duration::from_millis(500) };
    let target = Target { serving: gateway, present: &[gateway], keys: &keys, modules: &modules, quota: &quota };
    for group in gateway.proxies.keys() {
        assert!(translate(group.as_str(), target) == translate(group.as_str(), target), "not deterministic");
    }
});
