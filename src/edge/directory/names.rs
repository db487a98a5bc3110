//! Which names in the directory mean something.

use std::ffi::OsStr;
use std::path::Path;

use crate::model::name::Name;

/// What a name makes of its file, before anything of it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Candidate {
    /// `orders.yaml`, `.yml`, `.json`.
    Manifest { stem: String },
    /// `orders.sh`, `orders`: a service by being there, if it is executable.
    Script { stem: String },
    /// `_defaults.yaml`
    Defaults,
    /// `_plugd.yaml`
    Settings,
    /// `orders.yaml.d/`, if it is a directory.
    DropIns { stem: String },
    /// `wrappers/`
    Wrappers,
    /// `mcp/`
    Mcp,
    /// A manifest whose name cannot be used, and why.
    Refused { why: &'static str },
    /// Would be a script by its ending, and cannot be a service by its name.
    Misnamed { stem: String },
    /// Ours, an editor's or a package manager's.
    Skipped,
    /// Nothing that we read.
    Other,
}

const SKIPPED_ENDINGS: [&str; 6] = [".status", ".bak", ".orig", ".tmp", ".swp", ".rpmnew"];
const MANIFEST_ENDINGS: [&str; 3] = [".yaml", ".yml", ".json"];

/// What editors and package managers leave beside a file, and status files.
pub(super) fn is_litter(name: &str) -> bool {
    let edited = name.ends_with('~') || (name.starts_with('#') && name.ends_with('#')) || name.contains(".dpkg-");
    edited || SKIPPED_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

pub(super) fn candidate(name: &OsStr) -> Candidate {
    let Some(name) = name.to_str() else {
        let shown = name.to_string_lossy();
        let manifest = MANIFEST_ENDINGS.iter().any(|ending| shown.ends_with(ending)) && !shown.starts_with('.');
        return if manifest { Candidate::Refused { why: "its name is not UTF-8" } } else { Candidate::Skipped };
    };
    if name.starts_with('.') || is_litter(name) {
        return Candidate::Skipped;
    }
    match name {
        "_defaults.yaml" => return Candidate::Defaults,
        "_plugd.yaml" => return Candidate::Settings,
        "wrappers" => return Candidate::Wrappers,
        "mcp" => return Candidate::Mcp,
        _ => {}
    }
    let stem = |ending: &str| name.strip_suffix(ending).filter(|stem| !stem.is_empty()).map(str::to_string);
    if let Some(stem) = MANIFEST_ENDINGS.iter().find_map(|ending| stem(ending)) {
        return if name.starts_with('_') {
            Candidate::Refused { why: "names that begin with `_` are plugd's: `_defaults.yaml` and `_plugd.yaml`" }
        } else {
            Candidate::Manifest { stem }
        };
    }
    if let Some(stem) = stem(".yaml.d") {
        return Candidate::DropIns { stem };
    }
    match stem(".sh").or_else(|| (!name.contains('.')).then(|| name.to_string())) {
        Some(stem) if Name::parse(&stem).is_ok() => Candidate::Script { stem },
        Some(stem) => Candidate::Misnamed { stem },
        None => Candidate::Other,
    }
}

/// Whether a file of this name in a `STEM.yaml.d` takes part.
pub fn is_drop_in(name: &OsStr) -> bool {
    matches!(candidate(name), Candidate::Manifest { .. })
}

/// Whether plugd reads the file itself, starts it or writes it: a path below the directory.
pub fn is_its_own(path: &Path, is_executable: impl Fn() -> bool) -> bool {
    let mut names = path.iter();
    let (Some(first), deeper) = (names.next(), names.next()) else { return false };
    match (candidate(first), deeper) {
        (Candidate::Skipped, _) if first == ".plugd" => true,
        (Candidate::DropIns { .. }, Some(_)) => true,
        (Candidate::Skipped, None) => first.to_string_lossy().ends_with(".status"),
        (Candidate::Wrappers | Candidate::Mcp, Some(_)) => true,
        // Without the ending it is a service only if it is executable.
        (Candidate::Script { .. }, None) => first.to_string_lossy().ends_with(".sh") || is_executable(),
        (Candidate::Manifest { .. } | Candidate::Defaults | Candidate::Settings | Candidate::Refused { .. }, None) => {
            true
        }
        (
            Candidate::Manifest { .. }
            | Candidate::Script { .. }
            | Candidate::Defaults
            | Candidate::Settings
            | Candidate::DropIns { .. }
            | Candidate::Wrappers
            | Candidate::Mcp
            | Candidate::Refused { .. }
            | Candidate::Misnamed { .. }
            | Candidate::Skipped
            | Candidate::Other,
            _,
        ) => false,
    }
}

/// Endings of files that look like a declaration of another tool, or of ours in other letters.
const DECLARATIONS: [&str; 6] = [".conf", ".ini", ".toml", ".service", ".yaml", ".yml"];

/// What a file that is none of ours was probably meant to be, and what to do; for `check` alone.
pub(super) fn bystander(name: &OsStr, executable: bool) -> Option<String> {
    if candidate(name) != Candidate::Other {
        return None;
    }
    let shown = name.to_string_lossy();
    let small = shown.to_ascii_lowercase();
    if executable {
        return Some(format!(
            "{shown} is executable and makes no service: `*.sh` and names without an ending do by being there; \
             rename it, or write a manifest with `wrapper: {shown}`"
        ));
    }
    let ending = DECLARATIONS.iter().find(|ending| small.ends_with(**ending))?;
    let ours = MANIFEST_ENDINGS.contains(ending);
    Some(match ours {
        true => format!("{shown} is not read: write its ending in small letters, {small}"),
        // Another name alone would make another error of it.
        false => format!(
            "{shown} is not read, and not by another name alone: write what it runs as `command: PROGRAM` into \
             a file that ends in .yaml"
        ),
    })
}

/// A folder of drop-ins that no manifest has, and what to do; for `check` alone.
pub(super) fn orphan(name: &OsStr, is_there: impl Fn(&str) -> bool) -> Option<String> {
    let shown = name.to_str()?;
    if let Candidate::DropIns { stem } = candidate(name) {
        let has_one = MANIFEST_ENDINGS.iter().any(|ending| is_there(&format!("{stem}{ending}")));
        return (!has_one).then(|| format!("{shown} is not read: there is no {stem}.yaml that it could be laid over"));
    }
    let stem = [".yml.d", ".json.d"].iter().find_map(|ending| shown.strip_suffix(ending))?;
    let is_visible = !stem.is_empty() && !stem.starts_with('.');
    is_visible.then(|| format!("{shown} is not read: drop-ins lie in {stem}.yaml.d, whatever the manifest's ending"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_litter_of_editors_and_package_managers_is_skipped() {
        for name in [
            ".x.yaml",
            ".x.yaml.swp",
            "x.yaml~",
            "#x.yaml#",
            "x.yaml.bak",
            "x.yaml.orig",
            "x.yaml.tmp",
            "x.yaml.swp",
            "x.yaml.rpmnew",
            "x.yaml.dpkg-old",
            "x.yaml.dpkg-new",
            "x.status",
            "_controller.status",
            "..data",
            ".plugd",
        ] {
            assert_eq!(candidate(OsStr::new(name)), Candidate::Skipped, "{name}");
        }
    }

    #[test]
    fn manifests_scripts_and_folders_are_known_by_their_names() {
        let stem = || "x".to_string();
        for (name, what) in [
            ("x.yaml", Candidate::Manifest { stem: stem() }),
            ("x.yml", Candidate::Manifest { stem: stem() }),
            ("x.json", Candidate::Manifest { stem: stem() }),
            ("x.sh", Candidate::Script { stem: stem() }),
            ("x", Candidate::Script { stem: stem() }),
            ("4913", Candidate::Script { stem: "4913".into() }),
            ("sedAbC123", Candidate::Script { stem: "sedAbC123".into() }),
            ("x.yaml.d", Candidate::DropIns { stem: stem() }),
            ("_defaults.yaml", Candidate::Defaults),
            ("_plugd.yaml", Candidate::Settings),
            ("wrappers", Candidate::Wrappers),
            ("mcp", Candidate::Mcp),
            ("x.toml", Candidate::Other),
            ("-rf", Candidate::Misnamed { stem: "-rf".into() }),
            ("my server.sh", Candidate::Misnamed { stem: "my server".into() }),
            ("x.status.yaml", Candidate::Manifest { stem: "x.status".into() }),
        ] {
            assert_eq!(candidate(OsStr::new(name)), what, "{name}");
        }
        assert!(matches!(candidate(OsStr::new("_x.yaml")), Candidate::Refused { .. }));
    }

    #[test]
    fn who_was_probably_meant_to_be_read_is_told_how() {
        for (name, executable, told) in [
            ("mcp_18.py", true, Some("`wrapper: mcp_18.py`")),
            ("mcp_18.py", false, None),
            ("web_api.conf", false, Some("not by another name alone: write what it runs as `command: PROGRAM`")),
            ("UPPER.YAML", false, Some("in small letters, upper.yaml")),
            ("notes.txt", false, None),
            ("x.yaml", false, None),
            ("x.sh", true, None),
            (".hidden.py", true, None),
        ] {
            let found = bystander(OsStr::new(name), executable);
            match told {
                Some(told) => assert!(found.as_ref().is_some_and(|found| found.contains(told)), "{name}: {found:?}"),
                None => assert_eq!(found, None, "{name}"),
            }
        }
    }
}
