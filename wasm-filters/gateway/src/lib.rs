//! Both filters as Envoy loads them, in one module: a request pays for one. What it does is `tollgate-filter`'s.

#[cfg(target_family = "wasm")]
tollgate_filter_abi::export!(tollgate_filter::Vm<tollgate_filter::Both>, response_headers, grpc);
