//! sd_notify(3) datagrams as text: pure, and tolerant of everything.
//!
//! Lines `KEY=VALUE`; what is not known, not valid or not for us (MAINPID, FDSTORE, MONOTONIC_USEC
//! …) is passed over, as systemd does.

use std::time::Duration;

use crate::controller::Notification;
use crate::model::text::harmless::strip;

/// A status text, in characters; systemd shows about as much.
const STATUS_MAX: usize = 256;
/// What one message may ask for at most; more is as good as "never".
const EXTEND_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Read one datagram; `None` if nothing in it is for us.
pub fn parse(datagram: &[u8]) -> Option<Notification> {
    let mut message = Notification::default();
    for line in datagram.split(|byte| *byte == b'\n') {
        let Some(at) = line.iter().position(|byte| *byte == b'=') else { continue };
        let (key, value) = (&line[..at], &line[at + 1..]);
        match key {
            b"READY" => message.ready |= value == b"1",
            b"STOPPING" => message.stopping |= value == b"1",
            b"WATCHDOG" => message.watchdog |= value == b"1",
            b"STATUS" => message.status = Some(status(value)),
            b"EXTEND_TIMEOUT_USEC" => message.extend_timeout = micros(value).or(message.extend_timeout),
            _ => {}
        }
    }
    (message != Notification::default()).then_some(message)
}

/// One line for a terminal; an empty one takes the last back.
fn status(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    strip(text.trim()).chars().take(STATUS_MAX).collect()
}

fn micros(value: &[u8]) -> Option<Duration> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits)?;
    // Digits that overflow are a very long time.
    Some(text.parse().map_or(EXTEND_MAX, |micros| Duration::from_micros(micros).min(EXTEND_MAX)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_words_of_sd_notify_are_understood() {
        let message = parse(b"READY=1\nSTATUS=Serving\x1b[2J 3 \xff clients\nMAINPID=7\nEXTEND_TIMEOUT_USEC=1500000\n");
        let message = message.expect("a message");
        assert!(message.ready && !message.stopping && !message.watchdog);
        assert_eq!(message.status.as_deref(), Some("Serving 3 \u{fffd} clients"));
        assert_eq!(message.extend_timeout, Some(Duration::from_millis(1500)));
        assert!(parse(b"WATCHDOG=1").is_some_and(|message| message.watchdog));
        assert_eq!(parse(b"RELOADING=1\nMONOTONIC_USEC=5"), None, "it goes on serving, and nothing depends on it");
        assert!(parse(b"STOPPING=1").is_some_and(|message| message.stopping));
    }

    #[test]
    fn what_is_not_for_us_is_no_message() {
        for text in [
            &b""[..],
            b"\n\n",
            b"READY",
            b"READY=0",
            b"ready=1",
            b"FDSTORE=1\nFDNAME=x",
            b"=",
            b"MAINPID=1",
            b"WATCHDOG=trigger",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse(b"EXTEND_TIMEOUT_USEC=-1"), None);
        let endless = parse(b"EXTEND_TIMEOUT_USEC=99999999999999999999999").expect("a long time");
        assert_eq!(endless.extend_timeout, Some(EXTEND_MAX));
    }

    proptest! {
        #[test]
        fn any_bytes_are_bounded_and_fit_for_a_terminal(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let mut datagram = b"STATUS=".to_vec();
            datagram.extend(&bytes);
            for message in [parse(&bytes), parse(&datagram)].into_iter().flatten() {
                let status = message.status.unwrap_or_default();
                prop_assert!(status.chars().count() <= STATUS_MAX);
                prop_assert!(!status.chars().any(crate::model::text::harmless::is_hostile));
            }
        }

        #[test]
        fn keys_and_garbage_in_any_order_never_fall(lines in proptest::collection::vec("(READY|STATUS|EXTEND_TIMEOUT_USEC|WATCHDOG|X)?=?[ -~]{0,12}", 0..40)) {
            let _ = parse(lines.join("\n").as_bytes());
        }
    }
}
