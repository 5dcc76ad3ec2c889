//! Times on the wire: RFC 3339, UTC, milliseconds and `Z`.

use rig::Timestamp;

/// A time as text.
pub(crate) fn text(at: Timestamp) -> String {
    // The core's times saturate far beyond the calendar; the calendar's own ends are shown then.
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or(if at.0 < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    });
    format!("{at:.3}")
}

/// A time from text, to the millisecond.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .map(|at| Timestamp(at.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_a_z() {
        assert_eq!(text(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            text(Timestamp(1_700_000_000_120)),
            "2023-11-14T22:13:20.120Z"
        );
        assert!(text(Timestamp(i64::MAX)).ends_with('Z'));
        assert!(text(Timestamp(i64::MIN)).ends_with('Z'));
        assert_eq!(
            parse("2023-11-14T22:13:20.120Z"),
            Some(Timestamp(1_700_000_000_120))
        );
        assert_eq!(
            parse("2023-11-14T23:13:20.120+01:00"),
            Some(Timestamp(1_700_000_000_120))
        );
        assert_eq!(parse("yesterday"), None);
    }
}
