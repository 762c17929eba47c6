#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| samara_core::store::decoders::wal_group_within(data));
