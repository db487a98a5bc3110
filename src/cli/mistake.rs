//! What a person typed wrongly, told in our own form: what it was, what was probably meant, and
//! where to look. clap finds the mistake; its own words are kept only where it knows more than we do.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{grammar, select};

/// One sentence for the mistake; none where clap's message is the better one.
pub fn sentence(error: &clap::Error, words: &[String]) -> Option<String> {
    let verb = verb_of(words);
    // Who speaks stands before it.
    let whole = verb.clone().unwrap_or("plugd".into());
    let help = verb.as_ref().map_or("`plugd help --all`".to_string(), |verb| format!("`plugd {verb} --help`"));
    let argument = || texts(error, ContextKind::InvalidArg).first().map(|text| name_of(text));
    let value = || texts(error, ContextKind::InvalidValue).first().cloned().filter(|value| !value.is_empty());
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let typed = texts(error, ContextKind::InvalidSubcommand).into_iter().next()?;
            Some(no_verb(&typed))
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
            let or_all = match verb.as_deref() {
                Some("start" | "stop" | "restart") => ", or --all",
                Some(_) | None => "",
            };
            (!missing.is_empty()).then(|| format!("{whole} needs {}{or_all}; {help} shows how", missing.join(" and ")))
        }
        _ => None,
    }
}

/// First words of other tools, and what they are here.
const FOREIGN: &[(&[&str], &str)] = &[
    (&["up"], "`plugd run` starts what lies in services.d, and `plugd start NAME` what was stopped"),
    (
        &["down", "shutdown", "quit"],
        "TERM or ^C to `plugd run` stops everything in order (`keeperPid` in _controller.status); \
         `plugd stop --all` stops the services alone",
    ),
    (&["tail", "log", "journal"], "write `plugd logs -f NAME`"),
    (&["kill"], "write `plugd stop NAME`, or `plugd signal KILL NAME`"),
    (
        &["reload", "reread", "update", "daemon-reload"],
        "a file in services.d is taken up as it is written; `plugd signal HUP NAME` asks a service to read its own",
    ),
    (&["rollout"], "write `plugd restart NAME`; `plugd wait NAME` follows an edit"),
    (&["enable", "disable"], "write `enabled: false` into the manifest (`plugd edit NAME`), or take it out"),
    (&["create"], "write `plugd add FILE`"),
    (&["inspect", "show"], "write `plugd status NAME`"),
    (&["config"], "`plugd check` looks at the files, `plugd explain` tells their fields"),
    (&["attach", "sh", "shell"], "write `plugd exec NAME -- sh`"),
];

/// There is no such verb: what it is here, or which one was probably meant.
pub fn no_verb(typed: &str) -> String {
    if let Some((_, here)) = FOREIGN.iter().find(|(words, _)| words.contains(&typed)) {
        return format!("there is no verb {typed}; {here}");
    }
    let grammar = grammar();
    let verbs = grammar.get_subcommands().filter(|verb| !verb.is_hide_set());
    let words: Vec<&str> =
        verbs.flat_map(|verb| std::iter::once(verb.get_name()).chain(verb.get_visible_aliases())).collect();
    let near = |word: &&str| distance(typed, word);
    let least = words.iter().map(near).min().unwrap_or(usize::MAX);
    let most = if typed.len() <= 4 { 1 } else { 2 };
    let near: Vec<String> = match least <= most {
        true => words.iter().filter(|word| near(word) == least).take(2).map(ToString::to_string).collect(),
        false => Vec::new(),
    };
    format!("there is no verb {typed}{}; `plugd help --all` lists them", meant(&near))
}

/// How many letters are wrong, missing or too many; two that changed places are one (Damerau's distance).
fn distance(typed: &str, word: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (typed.chars().collect(), word.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// What people of kubectl write.
fn of_kubectl(verb: Option<&str>, typed: &str, words: &[String]) -> Option<String> {
    let file = words.iter().skip_while(|word| !word.starts_with("-f") && !word.starts_with("--filename")).nth(1);
    let file = file.map_or("FILE", String::as_str);
    match (verb?, typed) {
        (_, "-=") => {
            let flag = words.iter().find(|word| word.starts_with('-') && word.contains('='))?;
            Some(format!("{flag}: that flag takes no value; leave it out, or write it alone"))
        }
        (_, "-A" | "--all-namespaces" | "-n" | "--namespace") => {
            let at = words.iter().position(|word| word.starts_with(typed))?;
            let value = words.get(at + 1).filter(|_| typed.starts_with("-n") || typed.ends_with("space"));
            let value = value.filter(|_| !words[at].contains('=') && words[at].len() == typed.len());
            let all = value.map_or(words[at].clone(), |value| format!("{} {value}", words[at]));
            Some(format!("there are no namespaces here: one node, and the names of one directory; leave {all} out"))
        }
        ("add", "-f" | "--filename") => Some(format!("plugd add takes the file as it is; write `plugd add {file}`")),
        ("rm", "-f" | "--filename") => Some("plugd rm takes names of services; write `plugd rm NAME`".into()),
        ("check", "-f" | "--filename") => {
            Some(format!("plugd check takes files as they are; write `plugd check {file}`"))
        }
        ("scale", replicas) if replicas.starts_with("--replicas") => {
            let words =
                words.iter().skip_while(|word| *word != "scale").skip(1).map(String::as_str).collect::<Vec<_>>();
            let is_count = |at: usize| at > 0 && words[at - 1] == "--replicas";
            let after = words.iter().enumerate().find(|(at, _)| is_count(*at)).map(|(_, word)| *word);
            let count = words.iter().find_map(|word| word.strip_prefix("--replicas=")).or(after).unwrap_or("3");
            let is_name = |at: usize| !words[at].starts_with('-') && !is_count(at);
            let name = (0..words.len()).find(|at| is_name(*at)).map(|at| select::bare(words[at].to_string()));
            let name = name.unwrap_or("NAME".into());
            Some(format!("scale takes NAME=N; write `plugd scale {name}={count}`"))
        }
        ("exec", "-i" | "-t" | "-it" | "-ti" | "--stdin" | "--tty") => {
            Some(format!("exec has your terminal anyway; leave {typed} out"))
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
            ("strat", "there is no verb strat (did you mean start?); `plugd help --all` lists them"),
            ("stpo", "there is no verb stpo (did you mean stop?); `plugd help --all` lists them"),
            ("hsitory", "there is no verb hsitory (did you mean history?); `plugd help --all` lists them"),
            ("restat", "there is no verb restat (did you mean restart?); `plugd help --all` lists them"),
            ("ad", "there is no verb ad (did you mean add?); `plugd help --all` lists them"),
            ("gte", "there is no verb gte (did you mean get?); `plugd help --all` lists them"),
            ("frobnicate", "there is no verb frobnicate; `plugd help --all` lists them"),
            ("tail web", "there is no verb tail; write `plugd logs -f NAME`"),
            ("scale --replicas=2 deploy/web", "scale takes NAME=N; write `plugd scale web=2`"),
            ("scale web --replicas 2", "scale takes NAME=N; write `plugd scale web=2`"),
            ("scale --replicas 4 deploy/web", "scale takes NAME=N; write `plugd scale web=4`"),
            ("scale deployment/web --replicas=5", "scale takes NAME=N; write `plugd scale web=5`"),
            ("--dir x scale web --replicas 2 --wait", "scale takes NAME=N; write `plugd scale web=2`"),
            ("scale web 3", "NAME=N web: write it as web=3"),
            ("exec -it web -- sh", "exec has your terminal anyway; leave -i out"),
            ("logs web -f=false", "-f=false: that flag takes no value; leave it out, or write it alone"),
            ("get po -A", "there are no namespaces here: one node, and the names of one directory; leave -A out"),
            (
                "get -n default po",
                "there are no namespaces here: one node, and the names of one directory; leave -n default out",
            ),
            ("stop", "stop needs NAME, or --all; `plugd stop --help` shows how"),
            ("--splendid", "plugd takes no --splendid; `plugd help --all` lists what it takes"),
            ("get --sumary", "get takes no --sumary (did you mean --summary?); `plugd get --help` lists what it takes"),
            ("history", "history needs NAME; `plugd history --help` shows how"),
            ("exec web", "exec needs CMD; `plugd exec --help` shows how"),
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
