//! Patterns of file names: `config/*.toml`, `conf.d/**/*.{yaml,yml}`.
//!
//! Part by part, so that whoever looks for files lists no more folders than he must. `*` and `?` stand for
//! parts of one name, `**` for any number of folders. As in a shell, what begins with a dot is meant only
//! where the dot is written.

use std::path::{Path, PathBuf};

use globset::{Glob, GlobBuilder, GlobMatcher};

/// A path may have 4096 bytes; nobody types so many.
const LENGTH_MAX: usize = 1024;
/// From the first part on that stands for others.
const PARTS_MAX: usize = 32;

/// One pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// As far as nothing stands for anything else.
    pub base: PathBuf,
    pub rest: Vec<Part>,
}

/// One part of a path.
#[derive(Debug, Clone)]
pub enum Part {
    Name(Matcher),
    /// `**`: any number of folders.
    Folders,
}

#[derive(Debug, Clone)]
pub struct Matcher {
    glob: GlobMatcher,
    dotted: bool,
}

impl Matcher {
    pub fn takes(&self, name: &str) -> bool {
        self.dotted == name.starts_with('.') && self.glob.is_match(name)
    }
}

/// What to write instead of what is no pattern. Far cheaper than [`parse`].
pub fn check(text: &str) -> Result<(), String> {
    split(text).map(drop)
}

/// None for what [`check`] refuses.
pub fn parse(text: &str) -> Option<Pattern> {
    let (base, parts) = split(text).ok()?;
    let part = |(glob, dotted): Written| match glob {
        Some(glob) => Part::Name(Matcher { glob: glob.compile_matcher(), dotted }),
        None => Part::Folders,
    };
    Some(Pattern { base, rest: parts.into_iter().map(part).collect() })
}

/// None for `**`, and whether a name begins with a dot.
type Written = (Option<Glob>, bool);

/// The base, and the parts behind it.
fn split(text: &str) -> Result<(PathBuf, Vec<Written>), String> {
    if text.trim().is_empty() || text.len() > LENGTH_MAX || text.contains('\0') {
        return Err("write a path or a pattern such as config/*.toml".into());
    }
    let is_plain = |part: &str| !part.contains(['*', '?', '[', ']', '{', '}', '\\']);
    let mut parts = text.split('/').filter(|part| !part.is_empty() && *part != ".").peekable();
    let mut base = PathBuf::from(if text.starts_with('/') { "/" } else { "" });
    while let Some(part) = parts.next_if(|part| is_plain(part)) {
        base.push(part);
    }
    let mut parts: Vec<&str> = parts.collect();
    // Any number of folders, and any number of those.
    parts.dedup_by(|part, before| *part == "**" && *before == "**");
    if parts.len() > PARTS_MAX {
        return Err(format!(
            "write at most {PARTS_MAX} parts from the first `*` on; `**` stands for any number of folders"
        ));
    }
    Ok((base, parts.into_iter().map(part).collect::<Result<_, _>>()?))
}

fn part(text: &str) -> Result<Written, String> {
    match text {
        "**" => return Ok((None, false)),
        ".." => return Err("write `..` before the first `*`".into()),
        _ if text.contains("**") => return Err("`**` stands alone between two slashes; within a name write `*`".into()),
        _ => {}
    }
    let glob = GlobBuilder::new(text)
        .literal_separator(true)
        .build()
        .map_err(|error| format!("as a pattern: {}; a `\\` before a special character makes it plain", error.kind()))?;
    Ok((Some(glob), text.starts_with('.')))
}

/// Where its files are sought: below `dir`, where it does not begin with a slash.
pub fn place(dir: &Path, pattern: &Pattern) -> PathBuf {
    dir.join(&pattern.base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (String, usize) {
        let pattern = parse(text).unwrap_or_else(|| panic!("{text}"));
        (pattern.base.display().to_string(), pattern.rest.len())
    }

    #[test]
    fn a_pattern_begins_where_something_stands_for_something_else() {
        assert_eq!(of("config/*.toml"), ("config".into(), 1));
        assert_eq!(of("./a//b.conf"), ("a/b.conf".into(), 0));
        assert_eq!(of("/etc/x/**/y/*.d"), ("/etc/x".into(), 3));
        assert_eq!(of("../*"), ("..".into(), 1));
        assert_eq!(place(Path::new("/s"), &parse("/etc/*").expect("valid")), Path::new("/etc"));
        assert_eq!(place(Path::new("/s"), &parse("a/*").expect("valid")), Path::new("/s/a"));
    }

    #[test]
    fn a_name_is_taken_as_a_shell_takes_it() {
        let takes = |pattern: &str, name: &str| match parse(pattern).expect("valid").rest.as_slice() {
            [Part::Name(matcher)] => matcher.takes(name),
            other => panic!("{pattern}: {other:?}"),
        };
        for (pattern, name) in
            [("*", "a"), ("*.toml", "a.toml"), ("?", "a"), ("[ab]*", "bc"), ("{a,b}.x", "b.x"), (".*", ".a")]
        {
            assert!(takes(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*", ".a"), ("*.toml", "a.tom"), ("?", "ab"), ("[ab]*", "c"), (".*", "a")] {
            assert!(!takes(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        for wrong in ["", " ", "a**/b", "a/[", "a/{b", "*/../x", "a\0b", &"a".repeat(2000), "*/{a/b}", &"?/".repeat(33)]
        {
            assert!(check(wrong).is_err() && parse(wrong).is_none(), "{wrong:?}");
        }
    }
}
