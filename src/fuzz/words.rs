//! The small languages of a manifest: names, durations, sizes, command lines, `$(VAR)`, schedules.

use crate::model::cron::Cron;
use crate::model::name::{Instance, Name};
use crate::model::zone::Zone;
use crate::model::{duration, expand, quantity, signal, words};

pub fn names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Name::parse(&text) {
        Ok(name) => {
            assert_eq!(name.as_str(), text);
            assert!(!text.contains('/') && !text.starts_with('.') && text.len() <= 63);
            let instance = Instance { service: name, index: bytes.len() as u32 };
            assert_eq!(Instance::parse(&instance.to_string()), Some(instance));
        }
        Err(wrong) => {
            let hint = wrong.hint.iter();
            hint.for_each(|hint| assert!(Name::parse(hint).is_ok(), "{hint:?} is proposed for {text:?}"));
        }
    }
    if let Some(instance) = Instance::parse(&text) {
        assert_eq!(Instance::parse(&instance.to_string()), Some(instance));
    }
}

pub fn numbers(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(span) = duration::parse(&text) {
        let shown = duration::show(span);
        assert_eq!(duration::parse(&shown), Ok(span), "{shown}");
    }
    if let Ok(size) = quantity::bytes(&text) {
        let shown = quantity::show_bytes(size);
        assert_eq!(quantity::bytes(&shown), Ok(size), "{shown}");
    }
    if let Ok(millis) = quantity::millicores(&text) {
        assert_eq!(quantity::millicores(&format!("{millis}m")), Ok(millis));
    }
    if let Some(number) = signal::parse(&text) {
        assert!((1..=64).contains(&number), "{text:?} is signal {number}");
    }
}

/// Words that are quoted one by one are split into the same words.
pub fn command(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match words::split(&text) {
        Ok(split) => {
            let quoted: Vec<String> = split.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
            assert_eq!(words::split(&quoted.join(" ")), Ok(split));
        }
        Err(wrong) => assert!(text.is_char_boundary(wrong.at()) && wrong.at() < text.len(), "{wrong:?}"),
    }
}

pub fn variables(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert_eq!(expand::expand(&text, |_| None).expect("nothing is put in"), text.replace("$$(", "$("));
    let without = text.replace("$$(", "");
    let same = expand::expand(&without, |name| Some(format!("$({name})"))).unwrap_or_default();
    assert!(without.contains("$$(") || same == without, "{same:?} of {without:?}");
    let names = std::cell::RefCell::new(Vec::new());
    let _as_written = expand::expand(&text, |name| {
        names.borrow_mut().push(name.to_owned());
        None
    });
    names.into_inner().iter().for_each(|name| assert!(expand::mentions(&text, name), "{name}"));
}

pub fn schedule(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _known_or_told = Zone::find(&text);
    let Ok(cron) = Cron::parse(&text) else { return };
    assert_eq!(Cron::parse(cron.as_str()).as_ref(), Ok(&cron));
    let _ = cron.has_fixed_times();
    let now = jiff::civil::datetime(2026, 11, 28, 12, 34, 56, 0);
    let next = cron.next(now);
    assert!(next.is_some_and(|next| next > now), "{text:?} comes due at {next:?}");
    assert!(cron.last(now).is_none_or(|last| last <= now));
}
