//! Times in words, and back.

/// `milliseconds` since 1970 as `2026-11-21 08:12:44Z`.
// Every value is a count of days or seconds below 2^53, so nothing overflows.
#[allow(clippy::arithmetic_side_effects)]
pub fn text(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, so that the leap day ends a year: see Hinnant, "chrono-compatible low-level date algorithms".
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// `seconds` since 1970 in the same form.
pub fn when(seconds: u64) -> String {
    text(seconds.saturating_mul(1000))
}

/// Milliseconds since 1970 of `2026-11-21T08:12:44Z` (RFC 3339 in UTC, whole seconds; a blank may stand for the `T`).
// Years have four digits, so nothing overflows.
#[allow(clippy::arithmetic_side_effects)]
pub fn parse(text: &str) -> Option<u64> {
    let shape = |byte: u8| if byte.is_ascii_digit() { b'0' } else { byte };
    let shape: Vec<u8> = text.bytes().map(shape).collect();
    if !matches!(shape.as_slice(), b"0000-00-00T00:00:00Z" | b"0000-00-00 00:00:00Z") {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Years from March, so that the leap day ends one: see `text`.
    let (year, shifted) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * shifted + 2) / 5 + day;
    let seconds = days.checked_sub(719_469)? * 86_400 + hour * 3600 + minute * 60 + second;
    let milliseconds = seconds * 1000;
    // A day or an hour that does not exist comes back as another one.
    let canonical = self::text(milliseconds);
    (canonical.replace(' ', "T") == text.replace(' ', "T")).then_some(milliseconds)
}

#[cfg(test)]
mod tests {
    #[test]
    fn known_dates() {
        for (milliseconds, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_399_999, "2000-02-28 23:59:59Z"),
            (951_782_400_000, "2000-02-29 00:00:00Z"),
            (1_795_248_764_123, "2026-11-21 08:12:44Z"),
            (4_107_542_400_000, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(super::text(milliseconds), text);
            assert_eq!(super::parse(text), Some(milliseconds / 1000 * 1000));
            assert_eq!(super::parse(&text.replace(' ', "T")), Some(milliseconds / 1000 * 1000));
        }
        for text in [
            "2025-02-29 00:00:00Z",
            "2025-13-01 00:00:00Z",
            "2025-01-01 24:00:00Z",
            "1969-12-31 23:59:59Z",
            "2025-01-01",
        ] {
            assert_eq!(super::parse(text), None, "{text}");
        }
        assert!(!super::text(u64::MAX).is_empty());
    }
}
