//! Names of signals, as a manifest writes them and messages show them.

/// Those that can be sent to a service, by their Linux numbers (x86, arm, riscv).
const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The real-time signals that the C libraries leave free.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// `SIGTERM`, `TERM`, `term` or `15`; `RTMIN+3`, `RTMAX-1`.
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    known.or_else(|| real_time(name))
}

fn real_time(name: &str) -> Option<i32> {
    let far = |sign: char, rest: &str| match rest.strip_prefix(sign) {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse::<i32>().ok(),
        Some(_) => None,
        None => rest.is_empty().then_some(0),
    };
    let from_first = name.strip_prefix("RTMIN").and_then(|rest| REAL_TIME.start().checked_add(far('+', rest)?));
    let number = from_first.or_else(|| REAL_TIME.end().checked_sub(far('-', name.strip_prefix("RTMAX")?)?));
    number.filter(|number| REAL_TIME.contains(number))
}

/// `SIGTERM`, `SIGRTMIN+3`; `signal 32` for those without a name.
pub fn name(number: i32) -> String {
    match SIGNALS.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => format!("SIG{name}"),
        None if REAL_TIME.contains(&number) => format!("SIGRTMIN+{}", number - REAL_TIME.start()),
        None => format!("signal {number}"),
    }
}

/// The names, for a hint.
pub fn names() -> impl Iterator<Item = &'static str> {
    SIGNALS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        assert_eq!([parse("SIGTERM"), parse("term"), parse("15")], [Some(15); 3]);
        for text in ["SIGTREM", "", "0", "65", "-9", "SIG", "HUP ", "SIGSIGHUP"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!((name(2), name(37), name(33)), ("SIGINT".into(), "SIGRTMIN+3".into(), "signal 33".into()));
    }

    #[test]
    fn power_and_real_time_signals_are_known_too() {
        assert_eq!([parse("PWR"), parse("SIGSTKFLT")], [Some(30), Some(16)]);
        assert_eq!([parse("RTMIN"), parse("sigrtmin+3"), parse("RTMAX-1"), parse("RTMAX")], [34, 37, 63, 64].map(Some));
        assert_eq!([parse("RTMIN+31"), parse("RTMIN-1"), parse("RTMIN+-1"), parse("RTMAX-99999999999")], [None; 4]);
        for number in (1..=31).chain(REAL_TIME) {
            assert_eq!(parse(&name(number)), Some(number), "{}", name(number));
        }
    }
}
