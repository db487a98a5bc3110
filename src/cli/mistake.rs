//! What a person typed wrongly, told in our own form: what it was, what was probably meant, and
//! where to look. clap finds the mistake; its own words are kept only where it knows more than we do.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::grammar;

/// One sentence for the mistake; none where clap's message is the better one.
pub fn sentence(error: &clap::Error, words: &[String]) -> Option<String> {
    let verb = verb_of(words);
    let whole = verb.as_ref().map_or("plugd".to_string(), |verb| format!("plugd {verb}"));
    let help = verb.as_ref().map_or("`plugd help --all`".to_string(), |verb| format!("`plugd {verb} --help`"));
    let argument = || texts(error, ContextKind::InvalidArg).first().map(|text| name_of(text));
    let value = || texts(error, ContextKind::InvalidValue).first().cloned().filter(|value| !value.is_empty());
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let typed = texts(error, ContextKind::InvalidSubcommand).into_iter().next()?;
            let meant = meant(&texts(error, ContextKind::SuggestedSubcommand));
            Some(format!("there is no verb {typed}{meant}; `plugd help --all` lists them"))
        }
        ErrorKind::UnknownArgument => {
            let typed = texts(error, ContextKind::InvalidArg).into_iter().next()?;
            if let Some(told) = of_kubectl(verb.as_deref(), &typed, words) {
                return Some(told);
            }
            let meant = meant(&texts(error, ContextKind::SuggestedArg));
            Some(format!("{whole} takes no {typed}{meant}; {help} lists what it takes"))
        }
        ErrorKind::ValueValidation => {
            let source = error.source()?;
            let why = match source.downcast_ref::<std::num::ParseIntError>() {
                Some(_) => "write a whole number".to_string(),
                None => source.to_string(),
            };
            Some(format!("{} {}: {why}", argument()?, value()?))
        }
        ErrorKind::InvalidValue => match value() {
            Some(value) => {
                let choices = texts(error, ContextKind::ValidValue).join(", ");
                Some(format!("{} {value}: choose one of {choices}", argument()?))
            }
            None => Some(format!("{} needs a value; {help} says which", argument()?)),
        },
        ErrorKind::MissingRequiredArgument => {
            let missing: Vec<String> = texts(error, ContextKind::InvalidArg).iter().map(|text| name_of(text)).collect();
            (!missing.is_empty()).then(|| format!("{whole} needs {}; {help} shows how", missing.join(" and ")))
        }
        _ => None,
    }
}

/// What people of kubectl write.
fn of_kubectl(verb: Option<&str>, typed: &str, words: &[String]) -> Option<String> {
    let file = words.iter().skip_while(|word| !word.starts_with("-f") && !word.starts_with("--filename")).nth(1);
    let file = file.map_or("FILE", String::as_str);
    match (verb?, typed) {
        ("add", "-f" | "--filename") => Some(format!("plugd add takes the file as it is; write `plugd add {file}`")),
        ("rm", "-f" | "--filename") => Some("plugd rm takes names of services; write `plugd rm NAME`".into()),
        ("check", "-f" | "--filename") => {
            Some(format!("plugd check takes files as they are; write `plugd check {file}`"))
        }
        _ => None,
    }
}

fn meant(near: &[String]) -> String {
    match near {
        [] => String::new(),
        [one] => format!(" (did you mean {one}?)"),
        [several @ .., last] => format!(" (did you mean {} or {last}?)", several.join(", ")),
    }
}

/// The first word that is a verb, or another name of one.
fn verb_of(words: &[String]) -> Option<String> {
    let grammar = grammar();
    words
        .iter()
        .take_while(|word| *word != "--")
        .find_map(|word| Some(grammar.find_subcommand(word)?.get_name().into()))
}

/// `--timeout <TIME>` is `--timeout`; `<NAME>...` is `NAME`.
fn name_of(argument: &str) -> String {
    match argument.strip_prefix('<') {
        Some(name) => name.split('>').next().unwrap_or(name).to_string(),
        None => argument.split([' ', '=', '[']).next().unwrap_or(argument).to_string(),
    }
}

fn texts(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        Some(_) | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_is_told_with_what_was_meant() {
        for (typed, told) in [
            ("gett", "there is no verb gett (did you mean get?); `plugd help --all` lists them"),
            ("--splendid", "plugd takes no --splendid; `plugd help --all` lists what it takes"),
            (
                "get --sumary",
                "plugd get takes no --sumary (did you mean --summary?); `plugd get --help` lists what it takes",
            ),
            ("status", "plugd status needs NAME; `plugd status --help` shows how"),
            ("why", "plugd status needs NAME; `plugd status --help` shows how"),
            ("exec web", "plugd exec needs CMD; `plugd exec --help` shows how"),
            ("signal HPU web", "SIGNAL HPU: write it as HUP, USR1, RTMIN+3 or a number from 1 to 64"),
            ("get --color blue", "--color blue: choose one of auto, always, never"),
            ("logs --tail foo", "--tail foo: write a whole number"),
            ("apply -f web.yaml", "plugd add takes the file as it is; write `plugd add web.yaml`"),
            ("get -o", "--output needs a value; `plugd get --help` says which"),
        ] {
            let words: Vec<String> = typed.split(' ').map(Into::into).collect();
            let all = std::iter::once("plugd").chain(typed.split(' '));
            let error = grammar().try_get_matches_from(all).expect_err(typed);
            assert_eq!(sentence(&error, &words).as_deref(), Some(told), "{typed}");
        }
    }
}
