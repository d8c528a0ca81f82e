//! Numbers as people read and type them: bytes, percentages, durations, times.

use jiff::Timestamp;

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// Bytes with three digits: "474.7 MiB".
#[expect(
    clippy::cast_precision_loss,
    reason = "four digits are shown; f64 has fifteen"
)]
pub(crate) fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0 of the smaller unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS.get(unit).unwrap_or(&"B"))
}

/// The same and every digit: "1.2 MiB (1258291 bytes)".
pub(crate) fn exact_bytes(count: u64) -> String {
    match count {
        ..1024 => format!("{count} bytes"),
        _ => format!("{} ({count} bytes)", bytes(count)),
    }
}

/// How many times `part` goes into `whole`.
#[expect(
    clippy::cast_precision_loss,
    reason = "shown with one or two digits behind the point"
)]
pub(crate) fn ratio(whole: u64, part: u64) -> f64 {
    if part == 0 {
        return if whole == 0 { 1.0 } else { f64::INFINITY };
    }
    whole as f64 / part as f64
}

/// A share in percent; nothing of nothing is 0.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    ratio(part, whole) * 100.0
}

/// A share as people read it: what is neither nothing nor all is never shown as that.
pub(crate) fn share(part: u64, whole: u64) -> String {
    match percent(part, whole) {
        p if part > 0 && p < 0.05 => "<0.1%".into(),
        p if part < whole && p >= 99.95 => ">99.9%".into(),
        p => format!("{p:.1}%"),
    }
}

/// As [`parse_bytes`], of what is short.
pub(crate) fn parse_short_bytes(text: &str) -> Result<u32, String> {
    let bytes = parse_bytes(text)?;
    u32::try_from(bytes).map_err(|_| "that is too many bytes".into())
}

/// Reads "4096", "256KiB", "1 MiB", "2M" or "1T" (powers of 1024; "KB", "MB" ... of 1000).
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || "write a number of bytes such as 262144, 256KiB or 1MiB".to_owned();
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    let number: Option<u64> = number.parse().ok();
    number.and_then(|n| n.checked_mul(factor)).ok_or_else(wrong)
}

/// Milliseconds since 1970 as RFC 3339 in UTC.
pub(crate) fn time(time_ms: u64) -> String {
    let time = i64::try_from(time_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.unwrap_or(Timestamp::MAX).to_string()
}

/// How long ago that was, in its largest unit.
pub(crate) fn age(time_ms: u64) -> String {
    let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
    let seconds = now.saturating_sub(time_ms) / 1000;
    let (value, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3600 => (seconds / 60, "m"),
        3600..86_400 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{value}{unit} ago")
}

/// A count with its noun: "1 tensor", "2 tensors".
pub(crate) fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_largest_unit_that_fits() {
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (497_759_232, "474.7 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn a_share_is_all_or_nothing_only_if_it_is() {
        let shares = [(0, 9), (1, 4_194_304), (1, 2), (65_533, 65_536), (9, 9)];
        let texts = shares.map(|(part, whole)| share(part, whole));
        assert_eq!(texts, ["0.0%", "<0.1%", "50.0%", ">99.9%", "100.0%"]);
    }

    #[test]
    fn typed_sizes_are_read_or_refused() {
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_bytes("256KiB"), Ok(256 << 10));
        assert_eq!(parse_bytes("1 MiB"), Ok(1 << 20));
        assert_eq!(parse_bytes("2mb"), Ok(2_000_000));
        assert_eq!(parse_bytes("3T"), Ok(3 << 40));
        for bad in ["", "KiB", "1x", "-1", "1.5MiB", "99999999999T"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_short_bytes("4095MiB"), Ok(4095 << 20));
        assert!(parse_short_bytes("4096MiB").is_err());
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(age(0).split(' ').count(), 2);
    }
}
