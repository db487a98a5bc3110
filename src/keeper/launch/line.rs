//! Numbers to text and back without allocating.

/// A few words and numbers: two numbers of 20 digits and three separators fit.
#[derive(Debug)]
pub struct Line {
    bytes: [u8; 48],
    length: usize,
}

impl Line {
    pub const fn new() -> Line {
        Line { bytes: [0; 48], length: 0 }
    }

    pub fn text(&self) -> &[u8] {
        self.bytes.split_at_checked(self.length).map_or(&[], |(text, _)| text)
    }

    pub fn push(&mut self, text: &[u8]) {
        for byte in text {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = *byte;
                self.length = self.length.wrapping_add(1);
            }
        }
    }

    pub fn push_number(&mut self, number: u64) {
        let mut place = 1;
        while number / place >= 10 {
            place *= 10; // at most number, so it cannot overflow
        }
        while place > 0 {
            self.push(&[b'0' + (number / place % 10) as u8]);
            place /= 10;
        }
    }
}

/// What a clock may be off between two looks at it, and more.
const MARGIN_NANOS: u64 = 100_000;
/// USER_HZ is 100 on every processor that Rust has.
const TICK_NANOS: u64 = 10_000_000;

/// The start time of a process that was made between these two moments of CLOCK_BOOTTIME, if both lie in one tick: the
/// kernel's stamp, which /proc tells in ticks, lies between them. Opening a file there is a tenth of a start.
pub fn tick_of_both(before: u64, after: u64) -> Option<u64> {
    let first = before.checked_sub(MARGIN_NANOS)? / TICK_NANOS;
    let last = after.checked_add(MARGIN_NANOS)? / TICK_NANOS;
    (first == last && before <= after).then_some(last)
}

/// Field 22 of /proc/PID/stat. The second field is the program's name in parentheses and may hold any
/// byte, so the count begins behind the last one. 0 if it is not there.
pub fn start_time_in(stat: &[u8]) -> u64 {
    let name_end = stat.iter().rposition(|byte| *byte == b')').unwrap_or(0);
    let fields = stat.get(name_end..).unwrap_or(&[]);
    let field = fields.split(|byte| *byte == b' ').nth(20).unwrap_or(&[]);
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte.wrapping_sub(b'0')));
    field.iter().map_while(digit).fold(0, |number, digit| number.wrapping_mul(10).wrapping_add(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21";
        for name in ["(sh)", "(a b)", "(x) y)", "()"] {
            assert_eq!(start_time_in(format!("77 {name} {rest}\n").as_bytes()), 987_654, "{name}");
        }
        for broken in ["", "77", "77 (sh) S 1 2", ")"] {
            assert_eq!(start_time_in(broken.as_bytes()), 0, "{broken:?}");
        }
    }

    #[test]
    fn a_tick_is_told_only_where_no_other_can_be_meant() {
        let tick = TICK_NANOS;
        assert_eq!(tick_of_both(7 * tick + MARGIN_NANOS, 8 * tick - MARGIN_NANOS - 1), Some(7));
        for (before, after) in [
            (7 * tick + MARGIN_NANOS - 1, 7 * tick + MARGIN_NANOS),
            (7 * tick + MARGIN_NANOS, 8 * tick - MARGIN_NANOS),
            (7 * tick + MARGIN_NANOS + 1, 7 * tick + MARGIN_NANOS),
            (0, 0),
            (u64::MAX, u64::MAX),
        ] {
            assert_eq!(tick_of_both(before, after), None, "{before} {after}");
        }
    }

    #[test]
    fn numbers_are_written_without_allocating() {
        for number in [0, 9, 10, 123, u64::from(u32::MAX), u64::MAX] {
            let mut line = Line::new();
            line.push_number(number);
            assert_eq!(line.text(), number.to_string().as_bytes());
        }
    }
}
