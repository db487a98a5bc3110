//! The two help screens: the first fits 80 × 24 with the verbs of every day, the second has all.
//!
//! clap cannot group subcommands, so the screens are drawn here from one table; a test holds it
//! against the grammar. What `plugd VERB --help` shows is clap's.

use std::fmt::Write;

/// One verb as the screens show it.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    pub group: &'static str,
    pub usage: &'static str,
    pub about: &'static str,
    /// Stands on the first screen.
    pub first: bool,
}

const fn first(group: &'static str, usage: &'static str, about: &'static str) -> Line {
    Line { group, usage, about, first: true }
}

const fn second(group: &'static str, usage: &'static str, about: &'static str) -> Line {
    Line { group, usage, about, first: false }
}

/// Every verb, by group, in reading order.
pub const LINES: &[Line] = &[
    first("run it", "run [DIR]", "run a directory; or run FILE, run -- CMD"),
    first("see it", "get [NAME..]", "the services, and why they are not well"),
    first("see it", "status NAME", "all about one: cause and next step first"),
    first("see it", "logs [NAME..]", "what they wrote; -f follows"),
    second("see it", "events [NAME..]", "what happened; -w watches"),
    second("see it", "top", "all of them on a whole terminal, live"),
    second("see it", "history NAME", "its past: availability, latency, restarts, exits"),
    first("steer it", "start NAME..", "clears back-off and `stop`; runs a job now"),
    first("steer it", "stop NAME..", "stays stopped until `plugd start`"),
    first("steer it", "restart NAME..", "stop and start, or roll"),
    second("steer it", "scale NAME=N..", "set the number of instances"),
    second("steer it", "signal SIG NAME..", "send a signal"),
    second("steer it", "exec NAME -- CMD", "run a command in its environment"),
    first("change it", "add FILE", "put a manifest in place; or add NAME -- CMD"),
    first("change it", "rm NAME..", "take it out; the service stops"),
    second("change it", "edit NAME", "edit its manifest, checked before it counts"),
    second("change it", "init [DIR]", "make a services.d with an example"),
    first("trust it", "check [FILE..]", "errors, then what would change; runs nothing"),
    first("trust it", "wait [NAME..]", "until ready: the HEALTHCHECK and CI line"),
    second("trust it", "explain FIELD", "what a field of the manifest means"),
    second("trust it", "schema", "the manifest's JSON Schema"),
    second("trust it", "doctor", "what plugd can and cannot do here"),
    second("plugd itself", "completion SHELL", "completions for bash, zsh, fish"),
    second("plugd itself", "man", "the manual page"),
    second("plugd itself", "version", "the version"),
    second("plugd itself", "help [VERB]", "this, all of it, or that of a verb"),
];

/// `plugd --help`.
pub fn short() -> String {
    let mut text = String::from("plugd: a kubelet for plain processes. A manifest put into services.d runs.\n\n");
    draw(&mut text, |line| line.first);
    text.push_str(
        "\nOptions  --dir DIR  the node that is meant (env PLUGD_DIR; default ./services.d)\n         \
         --color WHEN  auto, always, never\n\n\
         `plugd VERB --help` explains one, `plugd help --all` shows the rest.\n",
    );
    text
}

/// `plugd help --all`.
pub fn all() -> String {
    let mut text = String::from("plugd: every verb.\n\n");
    draw(&mut text, |_| true);
    text.push_str(
        "\nOptions of all  --dir DIR, --state-dir DIR, --run-dir DIR, --color WHEN, --quiet\n\
         Also known as   get: ps ls list; status: why describe; add: apply register;\n                \
         rm: delete deregister; check: validate, diff (1 if it differs)\n\
         Exit codes      0 done, 1 no or failed, 2 usage, 3 not ready, 4 no such service,\n                \
         5 invalid manifest, 6 no controller, 7 permission, 124 timeout\n",
    );
    text
}

fn draw(text: &mut String, wanted: impl Fn(&Line) -> bool) {
    let mut group = "";
    for line in LINES.iter().filter(|line| wanted(line)) {
        let head = if line.group == group { "" } else { line.group };
        group = line.group;
        let _ = writeln!(text, "{head:<13}{:<19}{}", line.usage, line.about);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_screens_have_every_verb_of_the_grammar_and_no_other() {
        let command = super::super::args::Cli::command();
        let grammar: BTreeSet<&str> =
            command.get_subcommands().filter(|c| !c.is_hide_set()).map(|c| c.get_name()).collect();
        let screens: BTreeSet<&str> = LINES.iter().filter_map(|line| line.usage.split(' ').next()).collect();
        assert_eq!(screens, grammar);
    }
}
