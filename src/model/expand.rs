//! `$(VAR)` as Kubernetes expands it in `command`, `args` and `env`: nothing else is ever expanded.

/// The longest string that execve(2) takes (MAX_ARG_STRLEN), its NUL included.
const LENGTH_MAX: usize = 128 * 1024 - 1;
/// What execve(2) takes in all, with the largest stack.
pub const TOTAL_MAX: usize = 6 * 1024 * 1024;

/// What no process can be given: values that hold each other grow without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("with its `$(…)` put in it is longer than 128 KiB, or 6 MiB with all others; no process can be given that")]
pub struct TooLong;

/// Replaces each `$(NAME)` that `value` knows. An unknown name stays as it is written, `$$(` becomes
/// a literal `$(`, and any other `$` stays. What is put in is not looked at again.
pub fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, TooLong> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$(") {
            out.push_str("$(");
            rest = after;
        } else if let Some((name, after)) = reference(rest) {
            match value(name) {
                Some(known) if out.len() + known.len() > LENGTH_MAX => return Err(TooLong),
                Some(known) => out.push_str(&known),
                None => out.push_str(&rest[..rest.len() - after.len()]),
            }
            rest = after;
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Whether the text refers to this name, unescaped.
pub fn mentions(text: &str, name: &str) -> bool {
    let found = std::cell::Cell::new(false);
    let _as_written = expand(text, |seen| {
        found.set(found.get() || seen == name);
        None
    });
    found.get()
}

/// The name in a leading `$(NAME)` and what follows it. Names are those of variables, with the
/// dots of `instance.port`.
pub fn reference(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.strip_prefix("$(")?.split_once(')')?;
    let first = name.bytes().next()?;
    let valid = (first.is_ascii_alphabetic() || first == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    valid.then_some((name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_replaced_and_all_else_stays() {
        let value = |name: &str| match name {
            "PORT" => Some("80".to_owned()),
            "SELF" => Some("$(PORT)".to_owned()),
            _ => None,
        };
        for (text, expanded) in [
            ("--port=$(PORT)", "--port=80"),
            ("$(PORT)$(PORT)", "8080"),
            ("$(NOPE) $PORT ${PORT}", "$(NOPE) $PORT ${PORT}"),
            ("$$(PORT)", "$(PORT)"),
            ("$$ $$$ cost: 5$", "$$ $$$ cost: 5$"),
            ("$$$(PORT)", "$$(PORT)"),
            ("$(SELF)", "$(PORT)"),
            ("$(PORT", "$(PORT"),
            ("$()", "$()"),
            ("$(a b)", "$(a b)"),
        ] {
            assert_eq!(expand(text, value).as_deref(), Ok(expanded), "{text}");
        }
        let long = "x".repeat(100_000);
        assert_eq!(expand("$(A)$(A)", |_| Some(long.clone())), Err(TooLong));
        assert!(mentions("x $(instance.port)", "instance.port"));
        assert!(!mentions("x $$(instance.port)", "instance.port"));
    }
}
