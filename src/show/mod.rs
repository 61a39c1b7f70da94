//! What programs are shown of rows and events: as JSON, with sensitive values masked.

pub(crate) mod ask;
pub(crate) mod events;
pub(crate) mod info;
pub(crate) mod mask;
pub(crate) mod rows;
pub(crate) mod visible;

/// A number with its thousands apart.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
