//! Numbers in arguments.

/// Whether Valkey takes `text` for a floating-point number: what the core can read, but no NaN.
pub(super) fn is_float(text: &[u8]) -> bool {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
    number.is_some_and(|number| !number.is_nan())
}
