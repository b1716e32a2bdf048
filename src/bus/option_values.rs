//! Values of options from their texts, in oslo.config's words.

use crate::text::display_safe_to;

/// A value as an error shows it: it may come from a URL that somebody mistyped.
fn shown(value: &str) -> String {
    display_safe_to(value, 64)
}

/// Says what is wrong with an option's value, if anything is.
pub(super) type Judge = fn(&str, &str) -> Result<(), String>;

/// The largest value of an AMQP 32-bit queue argument.
pub(super) const AMQP_INT: u32 = i32::MAX as u32;

pub(super) fn boolean(name: &str, value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err(format!("{name} must be true or false, not {:?}", shown(value))),
    }
}

pub(super) fn number(name: &str, value: &str, max: u32) -> Result<u32, String> {
    match value.trim().parse::<u32>() {
        Ok(number) if number <= max => Ok(number),
        _ => Err(format!("{name} must be a whole number from 0 to {max}, not {:?}", shown(value))),
    }
}

pub(super) fn number16(name: &str, value: &str) -> Result<u16, String> {
    value
        .trim()
        .parse()
        .map_err(|_| format!("{name} must be a whole number from 0 to {}, not {:?}", u16::MAX, shown(value)))
}

pub(super) fn seconds(name: &str, value: &str) -> Result<f64, String> {
    match value.trim().parse::<f64>() {
        Ok(number) if (0.0..=86_400.0).contains(&number) => Ok(number),
        _ => Err(format!("{name} must be a number of seconds from 0 to 86400, not {:?}", shown(value))),
    }
}

pub(super) fn login_method(name: &str, value: &str) -> Result<String, String> {
    match value.to_ascii_uppercase().as_str() {
        known @ ("PLAIN" | "AMQPLAIN" | "EXTERNAL") => Ok(known.to_owned()),
        _ => Err(format!("{name} must be PLAIN, AMQPLAIN or EXTERNAL, not {:?}", shown(value))),
    }
}

pub(super) fn is_boolean(name: &str, value: &str) -> Result<(), String> {
    boolean(name, value).map(drop)
}

pub(super) fn is_number(name: &str, value: &str) -> Result<(), String> {
    number(name, value, AMQP_INT).map(drop)
}

pub(super) fn is_seconds(name: &str, value: &str) -> Result<(), String> {
    seconds(name, value).map(drop)
}

pub(super) fn is_strategy(name: &str, value: &str) -> Result<(), String> {
    match value {
        "round-robin" | "shuffle" => Ok(()),
        _ => Err(format!("{name} must be round-robin or shuffle, not {:?}", shown(value))),
    }
}
