//! Moments as people read them: milliseconds since 1970 as RFC 3339 text in UTC.

const MILLIS_PER_DAY: u64 = 86_400_000;

/// `2026-11-20T23:31:51.464+00:00`.
pub(crate) fn rfc3339(millis: u64) -> String {
    let (year, month, day) = date(millis / MILLIS_PER_DAY);
    let rest = millis % MILLIS_PER_DAY;
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, milli) = (rest / 1000 % 60, rest % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}+00:00")
}

/// `2026-11-20 23:31:51`, as certificates' ends and listings show it.
pub(crate) fn date_time(millis: u64) -> String {
    let text = rfc3339(millis);
    format!("{} {}", &text[..10], &text[11..19])
}

/// Year, month and day of a day counted from 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    // Years are counted from March, so that the leap day is the last of its year, and from the
    // beginning of a 400-year cycle, all of which are equally long.
    let days = days + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (cycle * 400 + year + carry, month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000+00:00");
        assert_eq!(rfc3339(951_782_400_001), "2000-02-29T00:00:00.001+00:00");
        assert_eq!(rfc3339(1_795_217_511_464), "2026-11-20T23:31:51.464+00:00");
        assert_eq!(rfc3339(4_107_542_399_999), "2100-02-28T23:59:59.999+00:00");
        assert_eq!(rfc3339(4_107_542_400_000), "2100-03-01T00:00:00.000+00:00");
    }
}
