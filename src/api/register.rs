//! Register and deregister: a manifest is written into the watched directory, or removed from it.
//!
//! The directory stays the only desired state: nothing is told to the loop, which sees the file as
//! it sees any other. File names come from the table or from a checked [`Name`], never from a URL.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::refusal::{Json, Refusal};
use super::routes::{App, Named};
use super::wire::{Register, Registered, Removed};
use crate::edge::directory;
use crate::edge::put::{Existing, put};
use crate::model::digest;
use crate::model::name::Name;
use crate::model::register::{self, Refused};
use crate::model::yaml;

/// The size cap of the directory's scan: a larger one would only be refused there.
const MANIFEST_MAX: usize = 64 * 1024;

pub(super) async fn register(State(app): State<App>, Json(body): Json<Register>) -> Result<Response, Refusal> {
    let name =
        Name::parse(&body.name).map_err(|error| Refusal::bad_request(error.to_string(), "choose another name"))?;
    check(&name, &body.manifest)?;
    let snapshot = app.ctx.board.load();
    let (asked, dir) = (name.clone(), app.ctx.dir.clone());
    let file = on_disk(move || Ok(register::file_to_write(&snapshot, &asked, body.replace, &directory::reader(&dir))))
        .await
        .map_err(|error| disk(&app, &error))?
        .map_err(|refused| refusal(&app, refused))?;
    register::fits(&name, &file, body.manifest.as_bytes()).map_err(|refused| refusal(&app, refused))?;
    let sha256 = digest::short(body.manifest.as_bytes());
    let existing = if body.replace { Existing::Replace } else { Existing::Keep };
    let (dir, target) = (app.ctx.dir.clone(), file.clone());
    on_disk(move || put(&dir, &target, body.manifest.as_bytes(), existing)).await.map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists { exists(&name, &file) } else { disk(&app, &error) }
    })?;
    Ok((StatusCode::CREATED, axum::Json(Registered { service: name, file, sha256 })).into_response())
}

pub(super) async fn remove(State(app): State<App>, Named(view): Named) -> Result<axum::Json<Removed>, Refusal> {
    let file = view.manifest.file.clone();
    let path = app.ctx.dir.join(&file);
    let (snapshot, asked, dir) = (app.ctx.board.load(), view.service.clone(), app.ctx.dir.clone());
    on_disk(move || Ok(register::files_to_remove(&snapshot, &[asked], &directory::reader(&dir))))
        .await
        .map_err(|error| disk(&app, &error))?
        .map_err(|refused| refusal(&app, refused))?;
    let (dir, target) = (app.ctx.dir.clone(), file.clone());
    on_disk(move || {
        rustix::fs::unlinkat(open(&dir)?, &target, AtFlags::empty())?;
        Ok(())
    })
    .await
    .map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Refusal::conflict(format!("{} is not there any more", path.display()), "POST /v1/rescan looks again")
        }
        _ => disk(&app, &error),
    })?;
    Ok(axum::Json(Removed { service: view.service.clone(), file }))
}

/// Errors that would make another service than the one that was named, or none that can be waited for.
fn check(name: &Name, manifest: &str) -> Result<(), Refusal> {
    if manifest.len() > MANIFEST_MAX {
        return Err(Refusal::bad_request("the manifest is larger than 64 KiB", "move data out of it"));
    }
    if manifest.trim().is_empty() {
        return Err(Refusal::bad_request("the manifest is empty", "`plugd explain` shows what can stand in it"));
    }
    // Whatever else is wrong is told by the status, with line and column.
    let documents = yaml::parse(manifest.as_bytes(), 0).unwrap_or_default();
    if documents.len() > 1 {
        let message = format!("the manifest holds {} documents", documents.len());
        return Err(Refusal::bad_request(message, "send one service at a time"));
    }
    let [document] = documents.as_slice() else { return Ok(()) };
    for written in [document.text_at(&["name"]), document.text_at(&["metadata", "name"])].into_iter().flatten() {
        if written != name.as_str() {
            let message = format!("the manifest says name {:?}, the request {:?}", written, name.as_str());
            return Err(Refusal::bad_request(message, "use one name in both"));
        }
    }
    Ok(())
}

/// A file that is not this service's alone, or no manifest, is left as it is.
fn refusal(app: &App, refused: Refused) -> Refusal {
    match refused {
        Refused::Exists { name, file } => exists(&name, &file),
        Refused::Shared { name, file, other } => {
            Refusal::conflict(format!("{file} holds {other} too"), format!("edit {file} and take out {name} alone"))
        }
        Refused::Unnamed { name, file } => Refusal::conflict(
            format!("{name} is declared by {file}; this text there names no service, and would make another"),
            format!("write `name: {name}` into the manifest"),
        ),
        Refused::NotJson { name, file } => {
            Refusal::conflict(format!("{name} is declared by {file}, and this is no JSON"), "send it as JSON")
        }
        Refused::Script { name, file } => Refusal::conflict(
            format!("{name} was discovered as a script; a script is not removed this way"),
            format!("remove {} or take its x bit", app.ctx.dir.join(file).display()),
        ),
    }
}

fn exists(name: &Name, file: &str) -> Refusal {
    Refusal::conflict(format!("{name} exists already, in {file}"), "say `replace: true` to write over it")
}

fn disk(app: &App, error: &io::Error) -> Refusal {
    let dir = app.ctx.dir.display();
    let message = format!("{dir} cannot be changed: {error}");
    let next = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "change the file where the directory comes from",
        io::ErrorKind::PermissionDenied => "the controller's user needs write access to the directory",
        _ => "remedy that and ask again",
    };
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "DirectoryNotWritable", message, next)
}

/// On a thread of its own: a disk may hang, the loop may not.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|ended| Err(io::Error::other(ended)))
}

fn open(dir: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
