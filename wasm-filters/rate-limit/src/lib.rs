//! The rate-limit filter as Envoy loads it, alone. What it does is `tollgate-filter`'s.

#[cfg(target_family = "wasm")]
tollgate_filter_abi::export!(tollgate_filter::Vm<tollgate_filter::RateLimit>, response_headers, grpc);
