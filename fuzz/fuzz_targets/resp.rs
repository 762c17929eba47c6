#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| samara::resp::any::resp(data));
