//! `plugd edit`: an editor on a copy, put in place only when it is valid.

mod copy;
mod hangup;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use self::copy::Copy;
use self::hangup::Editor;
use super::args::EditArgs;
use super::check::refuse_invalid;
use super::fault::{Code, Fault};
use super::{Session, behind, last, node, select};
use crate::edge::put::{Existing, put};
use crate::model::digest;

pub fn edit(args: &EditArgs, session: &Session) -> Result<Code, Fault> {
    let (dir, file) = locate(&args.name, session)?;
    let path = dir.join(&file);
    let before = std::fs::read(&path).map_err(|error| Fault::path("read", &path, error))?;
    let place = Place::of(&path)?;
    let copy = Arc::new(Copy::of(base(&file), &before, &dir)?);
    let done = Editor::watched(&copy)
        .map_err(|error| Fault::path("watch the editor of", &path, error))
        .and_then(|editor| until_valid(&dir, &file, &before, &place, &copy, &editor, session));
    match &done {
        Ok(_) => copy.remove(),
        // What was typed is not thrown away.
        Err(_) => copy.leave(),
    }
    done
}

/// Into the editor, and back into it where what comes of it is no manifest.
fn until_valid(
    dir: &Path,
    file: &str,
    before: &[u8],
    place: &Place,
    copy: &Copy,
    editor: &Editor,
    session: &Session,
) -> Result<Code, Fault> {
    let path = dir.join(file);
    loop {
        let status = edited(&copy.path, editor)?;
        if editor.is_told() {
            return Err(Fault::no("the edit was told to end", format!("{file} is unchanged")));
        }
        if !status.success() {
            return Err(Fault::no(format!("the editor ended with {status}"), format!("{file} is unchanged")));
        }
        let after = std::fs::read(&copy.path).map_err(|error| Fault::path("read", &copy.path, error))?;
        if after == before {
            super::say(&format!("{file} is unchanged"));
            return Ok(Code::Done);
        }
        match refuse_invalid(file, &after, dir, session) {
            Ok(()) if std::fs::read(&path).ok().as_deref() != Some(before) => {
                let what = if path.exists() { "was changed by somebody else" } else { "was removed" };
                return Err(Fault::no(
                    format!("{file} {what} meanwhile, and stays as it is now"),
                    "edit it once more with what you wrote beside it",
                ));
            }
            Ok(()) => {
                put(&place.dir, &place.file, &after, Existing::Replace)
                    .map_err(|error| Fault::path("write", &path, error))?;
                // It is in place; that nobody answers who could tell what comes of it is no fault.
                if let Ok(node) = session.node() {
                    behind::tell_soon(&mut node.watch()?, file, &digest::short(&after), dir)?;
                }
                return Ok(Code::Done);
            }
            Err(fault) if again(&fault)? => {}
            Err(fault) => return Err(fault),
        }
    }
}

/// Where the text goes: where a link leads to, as an editor would, rather than a file in its place.
struct Place {
    dir: PathBuf,
    file: String,
}

impl Place {
    /// An error before anything is typed, where nothing could be written.
    fn of(path: &Path) -> Result<Place, Fault> {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let (Some(dir), Some(file)) = (real.parent(), real.file_name().and_then(|file| file.to_str())) else {
            return Err(Fault::no(format!("{} names no file", real.display()), "edit it by hand"));
        };
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::accessat(rustix::fs::CWD, dir, access, rustix::fs::AtFlags::EACCESS)
            .map_err(|errno| Fault::path("write in", dir, errno.into()))?;
        Ok(Place { dir: dir.to_path_buf(), file: file.to_string() })
    }
}

/// The directory and the file of a service.
fn locate(name: &str, session: &Session) -> Result<(PathBuf, String), Fault> {
    let found = match session.node() {
        Ok(node) => {
            let snapshot = node.snapshot_with(&[name.to_string()])?;
            Some((node.dir()?, select::find(&snapshot, name)?.manifest.file.clone()))
        }
        Err(fault) if fault.is_unreachable() => {
            let dir = node::directory(&session.global)?;
            let said = last::read(&dir).into_iter().find(|row| row.name == name).map(|row| row.file);
            let usual = ["yaml", "yml", "json"].map(|ending| format!("{name}.{ending}"));
            let file = said.into_iter().chain(usual).find(|file| dir.join(file).is_file());
            file.map(|file| (dir, file))
        }
        Err(fault) => return Err(fault),
    };
    match found {
        Some((dir, file)) if !file.is_empty() => Ok((dir, file)),
        Some(_) | None => Err(Fault::NoSuchService { name: name.into(), nearest: None }),
    }
}

/// A script of a library lies in a folder of the directory.
fn base(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

/// $VISUAL, $EDITOR, else vi; through a shell, because people write `code --wait` there.
fn edited(path: &Path, by: &Editor) -> Result<std::process::ExitStatus, Fault> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".into());
    // In the shell's own place a signal reaches it; what is no program, or more than one, is the shell's to run.
    let text = editor.to_string_lossy();
    let is_plain =
        !text.contains(['=', ';', '&', '|', '(', '{', '\n']) && text.split_whitespace().next().is_some_and(is_program);
    let mut line = std::ffi::OsString::from(if is_plain { "exec " } else { "" });
    line.push(editor);
    line.push(" \"$1\"");
    let status = by.run(Command::new("sh").arg("-c").arg(line).arg("plugd-edit").arg(path));
    status.map_err(|error| Fault::path("run the editor on", path, error))
}

/// A file that can be found: no word of the shell's own, such as `:` or `command`.
fn is_program(word: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    match word.contains('/') {
        true => Path::new(word).is_file(),
        false => std::env::split_paths(&path).any(|dir| dir.join(word).is_file()),
    }
}

/// Asks whether to edit again; without a terminal nobody can answer.
fn again(fault: &Fault) -> Result<bool, Fault> {
    use std::io::IsTerminal;
    let stdin = std::io::stdin();
    if !stdin.is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(false);
    }
    super::say(&fault.to_string());
    let _ = write!(std::io::stderr(), "edit it again? [Y/n] ");
    let mut answer = String::new();
    stdin.read_line(&mut answer).map_err(|error| Fault::path("read", "stdin", error))?;
    Ok(!answer.trim().to_ascii_lowercase().starts_with('n'))
}
