//! The words of a `command` written as one string, split as a shell would split it, and no more.
//!
//! There is no shell: what only a shell could do (pipes, lists, redirections, variables) is an
//! error here rather than a surprise at run time.

use super::expand;

/// Why a string is not simply words, and the byte at which that begins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotWords {
    #[error("the quote is never closed")]
    OpenQuote { at: usize },
    #[error("the backslash at the end escapes nothing")]
    OpenEscape { at: usize },
    #[error("`{what}` is shell syntax, and a command never meets a shell")]
    Shell { at: usize, what: String },
    #[error("`{what}` sets a variable, which only a shell does")]
    Assignment { at: usize, what: String },
    #[error("nobody expands `~` here")]
    Home { at: usize },
}

impl NotWords {
    pub fn at(&self) -> usize {
        match self {
            NotWords::OpenQuote { at }
            | NotWords::OpenEscape { at }
            | NotWords::Shell { at, .. }
            | NotWords::Assignment { at, .. }
            | NotWords::Home { at } => *at,
        }
    }
}

/// Splits at blanks; `'…'` is literal, `"…"` and `\` quote as in sh(1). `$(VAR)` stays for later.
pub fn split(text: &str) -> Result<Vec<String>, NotWords> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut at = 0;
    let shell = |at: usize, what: &str| NotWords::Shell { at, what: what.into() };
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let end = rest[1..].find('\'').ok_or(NotWords::OpenQuote { at })?;
                word.get_or_insert_default().push_str(&rest[1..=end]);
                at += end + 1;
            }
            '"' => at += double_quoted(text, at, word.get_or_insert_default())?,
            '\\' => {
                let next = rest[1..].chars().next().ok_or(NotWords::OpenEscape { at })?;
                word.get_or_insert_default().push(next);
                at += next.len_utf8();
            }
            '$' => at += dollar(text, at, word.get_or_insert_default())?,
            '|' | '&' | ';' | '<' | '>' | '(' | ')' | '`' => {
                let doubled = ["&&", "||", ">>", "<<", "2>"].into_iter().find(|op| rest.starts_with(op));
                let single = if c == '`' { "backtick" } else { &rest[..1] };
                return Err(shell(at, doubled.unwrap_or(single)));
            }
            '~' if word.is_none() => return Err(NotWords::Home { at }),
            c => {
                if word.is_none() && words.is_empty() {
                    assignment(rest, at)?;
                }
                word.get_or_insert_default().push(c);
                at += c.len_utf8() - 1;
            }
        }
        at += 1;
    }
    words.extend(word);
    Ok(words)
}

/// Reads from an opening `"` on; returns how far it went, less the one that the caller adds.
fn double_quoted(text: &str, start: usize, word: &mut String) -> Result<usize, NotWords> {
    let mut at = start + 1;
    while let Some(c) = text[at..].chars().next() {
        match c {
            '"' => return Ok(at - start),
            '$' => at += dollar(text, at, word)? + 1,
            '`' => return Err(NotWords::Shell { at, what: "backtick".into() }),
            '\\' => match text[at + 1..].chars().next() {
                Some(quoted @ ('"' | '\\' | '$' | '`')) => {
                    word.push(quoted);
                    at += 2;
                }
                Some(_) | None => {
                    word.push('\\');
                    at += 1;
                }
            },
            c => {
                word.push(c);
                at += c.len_utf8();
            }
        }
    }
    Err(NotWords::OpenQuote { at: start })
}

/// `$(VAR)` and `$$` are ours and stay; `$VAR`, `${VAR}`, `$1` and `$(a command)` are a shell's.
fn dollar(text: &str, at: usize, word: &mut String) -> Result<usize, NotWords> {
    let rest = &text[at..];
    if let Some((_, after)) = expand::reference(rest) {
        let whole = rest.len() - after.len();
        word.push_str(&rest[..whole]);
        return Ok(whole - 1);
    }
    if let Some(after) = rest.strip_prefix("$$") {
        word.push_str("$$");
        // `$$(` escapes: the bracket that follows is text.
        let bracket = after.find(')').filter(|_| after.starts_with('('));
        let literal = bracket.map_or("", |end| &after[..=end]);
        word.push_str(literal);
        return Ok(1 + literal.len());
    }
    let special = rest[1..].chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || "_{(*@#?!-".contains(c));
    if special {
        let name: String = rest.chars().take_while(|c| !c.is_whitespace() && !"\"'/".contains(*c)).take(24).collect();
        return Err(NotWords::Shell { at, what: name });
    }
    word.push('$');
    Ok(0)
}

/// `NAME=value` before the program.
fn assignment(rest: &str, at: usize) -> Result<(), NotWords> {
    let Some((name, _)) = rest.split(char::is_whitespace).next().and_then(|first| first.split_once('=')) else {
        return Ok(());
    };
    let valid = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if valid { Err(NotWords::Assignment { at, what: format!("{name}=") }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        for (text, words) in [
            ("a b  c", vec!["a", "b", "c"]),
            ("a 'b c' \"d e\"", vec!["a", "b c", "d e"]),
            ("a''b \"\" c", vec!["ab", "", "c"]),
            (r#"a\ b "q\"x" '\n' "\n""#, vec!["a b", "q\"x", "\\n", "\\n"]),
            ("--port=$(PORT) $(instance.port)", vec!["--port=$(PORT)", "$(instance.port)"]),
            ("echo $$(PORT) 5$ '$HOME'", vec!["echo", "$$(PORT)", "5$", "$HOME"]),
            ("a X=1 b~ é", vec!["a", "X=1", "b~", "é"]),
            ("  ", vec![]),
            ("a 'x|y' \\| \\$HOME", vec!["a", "x|y", "|", "$HOME"]),
        ] {
            assert_eq!(
                split(text).as_deref(),
                Ok(words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>().as_slice()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_needs_a_shell_is_refused_where_it_stands() {
        for (text, at) in [
            ("a | b", 2),
            ("a && b", 2),
            ("a; b", 1),
            ("a > b", 2),
            ("a $HOME", 2),
            ("a \"$HOME\"", 3),
            ("a ${X}", 2),
            ("a $(date +%s)", 2),
            ("a `b`", 2),
            ("X=1 a", 0),
            ("~/bin/a", 0),
            ("a 'b", 2),
            ("a \\", 2),
        ] {
            assert_eq!(split(text).expect_err(text).at(), at, "{text}");
        }
    }
}
