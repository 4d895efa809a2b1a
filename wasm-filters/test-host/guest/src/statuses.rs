//! Asks host functions for what may not be there now, past the SDK, which panics at most statuses.
//!
//! Each line is a function and the statuses for all of its maps, buffers, streams or tokens, from 0 on. What a call
//! changes where it may, the next one changes back.

#![allow(unsafe_code, reason = "the SDK does not give statuses")]

use crate::script::out;

#[cfg_attr(target_arch = "wasm32", link(wasm_import_module = "env"))]
unsafe extern "C" {
    fn proxy_get_header_map_size(map: u32, size: *mut u32) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        key: *const u8,
        length: usize,
        at: *mut u32,
        size: *mut u32,
    ) -> u32;
    fn proxy_add_header_map_value(map: u32, key: *const u8, length: usize, at: *const u8, size: usize)
    -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        key: *const u8,
        length: usize,
        at: *const u8,
        size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, key: *const u8, length: usize) -> u32;
    fn proxy_get_buffer_status(buffer: u32, size: *mut u32, flags: *mut u32) -> u32;
    fn proxy_get_buffer_bytes(buffer: u32, start: usize, most: usize, at: *mut u32, size: *mut u32) -> u32;
    fn proxy_set_buffer_bytes(buffer: u32, start: usize, size: usize, at: *const u8, length: usize) -> u32;
    fn proxy_continue_stream(kind: u32) -> u32;
    fn proxy_get_metric(id: u32, value: *mut u64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, length: usize, id: *mut u32) -> u32;
    fn proxy_grpc_send(token: u32, at: *const u8, length: usize, end: u32) -> u32;
    fn proxy_grpc_close(token: u32) -> u32;
    fn proxy_grpc_cancel(token: u32) -> u32;
    fn proxy_set_property(path: *const u8, length: usize, at: *const u8, size: usize) -> u32;
    fn proxy_get_property(path: *const u8, length: usize, at: *mut u32, size: *mut u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_done() -> u32;
    fn proxy_get_status(code: *mut u32, at: *mut u32, size: *mut u32) -> u32;
}

/// A header that nobody has.
const KEY: &str = "x-probe";
/// A token and a metric that nobody has; the two low bits say the kind.
const NOBODYS: u32 = 4_000;

/// Reports all of them.
pub fn all() {
    let (key, length) = (KEY.as_ptr(), KEY.len());
    let (mut a, mut b, mut c, mut long) = (0, 0, 0, 0);
    // SAFETY: every pointer is to something that lives over the call, with its length.
    unsafe {
        each("map size", 9, |map| proxy_get_header_map_size(map, &mut a));
        each("map value", 9, |map| proxy_get_header_map_value(map, key, length, &mut a, &mut b));
        each("map add", 9, |map| proxy_add_header_map_value(map, key, length, key, 1));
        each("map replace", 9, |map| proxy_replace_header_map_value(map, key, length, key, 1));
        each("map remove", 9, |map| proxy_remove_header_map_value(map, key, length));
        each("buffer status", 10, |buffer| proxy_get_buffer_status(buffer, &mut a, &mut b));
        each("buffer read", 10, |buffer| proxy_get_buffer_bytes(buffer, 0, 4, &mut a, &mut b));
        each("buffer write", 10, |buffer| proxy_set_buffer_bytes(buffer, usize::MAX, 0, key, 0));
        each("continue", 2, |kind| proxy_continue_stream(kind + 3));
        each("metric get", 4, |kind| proxy_get_metric(NOBODYS + kind, &mut long));
        each("metric record", 4, |kind| proxy_record_metric(NOBODYS + kind, 1));
        each("metric increment", 4, |kind| proxy_increment_metric(NOBODYS + kind, 1));
        each("metric define", 4, |kind| proxy_define_metric(kind, key, length, &mut a));
        each("grpc send", 4, |kind| proxy_grpc_send(NOBODYS + kind, key, length, 0));
        each("grpc close", 4, |kind| proxy_grpc_close(NOBODYS + kind));
        each("grpc cancel", 4, |kind| proxy_grpc_cancel(NOBODYS + kind));
        each("property set", 1, |_| proxy_set_property(key, length, key, 1));
        each("property get", 1, |_| proxy_get_property(key, length, &mut a, &mut b));
        each("effective", 1, |_| proxy_set_effective_context(NOBODYS));
        each("done", 1, |_| proxy_done());
        each("status", 1, |_| proxy_get_status(&mut a, &mut b, &mut c));
    }
}

fn each(name: &str, count: u32, mut call: impl FnMut(u32) -> u32) {
    let statuses: Vec<String> = (0..count).map(|number| call(number).to_string()).collect();
    out(&format!("{name} {}", statuses.join(",")));
}
