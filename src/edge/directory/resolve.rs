//! Finding a service's wrapper, env files and watched files, and a digest of what is in them.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::disk::{self, Stamp, Unread};
use super::recall::Recall;
use super::trust::Surroundings;
use super::watched::{BYTES_MAX, FILES_MAX, Found, SMALL, Watched};
use crate::controller::{self, Resolved};
use crate::edge::Identity;
use crate::model::digest;
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::spec::{self, Program, Spec};

/// Largest wrapper or env file whose bytes are read: beyond it (a bundled runtime) time, size and
/// inode stand for the content. 64 MiB are hashed in about 40 ms.
const CONTENT_MAX: u64 = 64 * 1024 * 1024;
/// A kernel reads this much of a `#!` line (BINPRM_BUF_SIZE).
const SHEBANG_MAX: usize = 256;

/// What was found, and what to watch for it to change.
#[derive(Debug, Clone)]
pub(super) struct Resolution {
    pub resolved: Resolved,
    pub of_watched: controller::Watched,
    /// Every path whose change could change this, in the order of the search.
    pub watched: Vec<PathBuf>,
    /// Folders of which every name could.
    pub folders: Vec<PathBuf>,
    pub warnings: Vec<(Reason, String)>,
}

/// Somebody is writing this file.
#[derive(Debug)]
pub(super) struct Busy(pub PathBuf);

#[derive(Debug)]
pub(super) struct Resolver {
    pub dir: PathBuf,
    /// `--wrappers DIR`
    pub further: Vec<PathBuf>,
    pub surroundings: Surroundings,
    /// By path: what the content was when the file was this.
    known: BTreeMap<PathBuf, (Stamp, Known)>,
    /// By service: its watched files.
    files: BTreeMap<Name, Watched>,
    recall: Recall,
}

#[derive(Debug, Clone)]
struct Known {
    hash: [u8; 32],
    /// The first bytes, to see `#!`.
    head: Vec<u8>,
    /// Of its bytes; of a very large one the hash is of its size and times.
    is_whole: bool,
}

/// What stands against starting it.
struct Fault {
    reason: Reason,
    message: String,
}

impl Resolution {
    /// Somebody writes `path`, which it needs.
    pub fn busy(path: PathBuf) -> Resolution {
        let message = format!("{} is being written", path.display());
        let resolved = Resolved::Missing { reason: Reason::StillWriting, message, tried: Vec::new() };
        let of_watched = controller::Watched::default();
        Resolution { resolved, of_watched, watched: vec![path], folders: Vec::new(), warnings: Vec::new() }
    }
}

impl Resolver {
    pub fn new(dir: PathBuf, further: Vec<PathBuf>, surroundings: Surroundings, recall: Recall) -> Resolver {
        Resolver { dir, further, surroundings, known: BTreeMap::new(), files: BTreeMap::new(), recall }
    }

    /// Looks for everything that `spec` names. `complete`: the writer of the file in question is done.
    pub fn resolve(&mut self, spec: &Spec, complete: bool) -> Result<Resolution, Busy> {
        let user = spec.process.user.as_deref().and_then(uid_of);
        let mut digest = Vec::new();
        let mut watched = Vec::new();
        let mut warnings = Vec::new();
        let mut fault = None;
        let mut wrapper = None;
        let mut tried = Vec::new();
        if let Program::Wrapper(written) = &spec.process.program {
            let places = self.places(&written.path);
            match places.iter().find(|place| may_be_there(place)).cloned() {
                None => {
                    tried = places.iter().map(|place| self.shown(place)).collect();
                    fault = Some(not_found(&written.path, tried.len()));
                    watched.extend(places);
                }
                Some(place) => {
                    watched.extend(places.into_iter().take_while(|other| *other != place));
                    watched.push(place.clone());
                    watched.extend(disk::hops(&place));
                    match self.check(&place, written, user, complete, &mut warnings)? {
                        Ok(hash) => digest.extend_from_slice(&hash),
                        Err(found) => fault = Some(found),
                    }
                    wrapper = Some(place);
                }
            }
        }
        for env_file in &spec.process.env_from {
            let path = &env_file.file;
            watched.push(path.clone());
            watched.extend(disk::hops(path));
            digest.extend_from_slice(path.as_os_str().as_bytes());
            match self.content(path, complete) {
                Ok((stamp, known)) => {
                    digest.push(1);
                    digest.extend_from_slice(&known.hash);
                    if let Some(finding) = self.surroundings.judge(path, &stamp, user) {
                        if finding.refused {
                            let reason = Reason::UntrustedFile;
                            fault = fault.or(Some(Fault { reason, message: finding.message }));
                        } else {
                            warnings.push((Reason::UntrustedFile, finding.message));
                        }
                    }
                }
                Err(Unread::Busy) => return Err(Busy(path.clone())),
                Err(unread) if unread.is_silent() => {
                    let message = format!("env file {} does not answer", path.display());
                    fault = fault.or(Some(Fault { reason: Reason::NotAnswering, message }));
                }
                // Told when the start is prepared (`EnvFileNotFound`); here it only is a content.
                Err(_) => digest.push(0),
            }
        }
        let mut folders = Vec::new();
        let mut of_watched = controller::Watched::default();
        if !spec.watch_files.is_empty() {
            let found;
            (found, of_watched) = self.watched(spec, complete, &mut digest, &mut warnings);
            watched.extend(found.files.iter().flat_map(|path| disk::hops(path)));
            watched.extend(found.files);
            // A new name in a folder is told as news of that.
            watched.extend(found.folders.iter().cloned());
            folders = found.folders;
        }
        let resolved = match fault {
            Some(Fault { reason, message }) => Resolved::Missing { reason, message, tried },
            None => Resolved::Found { wrapper, content: digest_of(&digest) },
        };
        Ok(Resolution { resolved, of_watched, watched, folders, warnings })
    }

    /// What `watchFiles` leads to, and what is in it.
    fn watched(
        &mut self,
        spec: &Spec,
        complete: bool,
        digest: &mut Vec<u8>,
        warnings: &mut Vec<(Reason, String)>,
    ) -> (Found, controller::Watched) {
        let before = match self.files.remove(&spec.name) {
            Some(before) => Some(before).filter(|before| before.is_of(&spec.watch_files)),
            None => self.recall.of(&spec.name).and_then(|noted| Watched::recalled(&spec.watch_files, noted)),
        };
        let is_new = before.is_none();
        let mut of_service = before.unwrap_or_else(|| Watched::new(&spec.watch_files));
        let found = of_service.find(&self.dir);
        let now = self.contents((&of_service, is_new), &found.files, complete);
        if of_service.take(&now) || is_new {
            of_service.note(&spec.name, &self.recall);
        }
        of_service.digest(digest);
        if found.cut {
            let message = format!("watchFiles leads to more than is watched: {FILES_MAX} files in 100 folders");
            warnings.push((Reason::TooLarge, message));
        }
        let missed = of_service.missed(&self.dir, &now);
        if let Some(first) = missed.first() {
            let others = if missed.len() > 1 { format!(" and {} others are", missed.len() - 1) } else { " is".into() };
            let message = format!("{}{others} away; what runs goes on as if it were not", self.shown(first));
            warnings.push((Reason::WatchFileNotFound, message));
        }
        let (changes, edited) = of_service.last_change();
        let edited = edited.iter().map(|path| self.shown(path)).collect();
        let of_watched = controller::Watched { changes, edited, lacks: of_service.away(&now).next().is_some() };
        self.files.insert(spec.name.clone(), of_service);
        (found, of_watched)
    }

    /// Of those that are there. One that somebody holds open for writing holds nothing up (a database is open as
    /// long as it runs): it counts as what it was, and is looked at when it is closed.
    fn contents(
        &mut self,
        (before, is_new): (&Watched, bool),
        files: &[PathBuf],
        complete: bool,
    ) -> BTreeMap<PathBuf, [u8; 32]> {
        let there: Vec<(&PathBuf, Stamp)> =
            files.iter().filter_map(|path| Some((path, disk::stat(path).ok()?))).collect();
        let too_many = there.iter().map(|(_, stamp)| stamp.size).sum::<u64>() > BYTES_MAX;
        let mut contents = BTreeMap::new();
        for (path, stamp) in there {
            if too_many && stamp.size > SMALL {
                contents.insert(path.clone(), disk::sha256(stamp.written().as_bytes()));
                continue;
            }
            match self.content(path, complete) {
                Ok((_, known)) => drop(contents.insert(path.clone(), known.hash)),
                Err(Unread::Busy) => {
                    // What a service begins with is what is there; a file that comes later, comes when it is closed.
                    let now = || Some(disk::sha256(&disk::read_as_it_is(path, CONTENT_MAX).filter(|_| is_new)?));
                    contents.extend(before.known(path).or_else(now).map(|hash| (path.clone(), hash)));
                }
                // Away again, closed to us, or no file any more: as if it were not there.
                Err(_) => {}
            }
        }
        contents
    }

    /// Where a wrapper may be, in order.
    fn places(&self, written: &Path) -> Vec<PathBuf> {
        if written.is_absolute() {
            return vec![written.to_path_buf()];
        }
        let own = [self.dir.clone(), self.dir.join("wrappers")];
        own.iter().chain(&self.further).map(|dir| dir.join(written)).collect()
    }

    /// `services.d/files.sh` for what lies in the directory.
    fn shown(&self, path: &Path) -> String {
        match (path.strip_prefix(&self.dir), self.dir.file_name()) {
            (Ok(rest), Some(base)) => Path::new(base).join(rest).display().to_string(),
            (Ok(_), None) | (Err(_), _) => path.display().to_string(),
        }
    }

    /// Why the wrapper at `path` cannot be started, or a hash of its content.
    fn check(
        &mut self,
        path: &Path,
        written: &spec::Wrapper,
        user: Option<u32>,
        complete: bool,
        warnings: &mut Vec<(Reason, String)>,
    ) -> Result<Result<[u8; 32], Fault>, Busy> {
        let shown = self.shown(path);
        let refuse = |reason, message: String| Ok(Err(Fault { reason, message }));
        let (stamp, known) = match self.content(path, complete) {
            Ok(found) => found,
            Err(Unread::Busy) => return Err(Busy(path.to_path_buf())),
            Err(Unread::NotAFile(kind)) => {
                return refuse(Reason::WrapperNotFound, format!("wrapper {shown} is {kind}, not a program"));
            }
            Err(Unread::Absent) => return refuse(Reason::WrapperNotFound, format!("wrapper {shown} is gone")),
            Err(Unread::TooLarge(size)) => {
                return refuse(Reason::Unreadable, format!("wrapper {shown} is too large ({size} bytes)"));
            }
            Err(unread) if unread.is_silent() => {
                return refuse(Reason::NotAnswering, format!("wrapper {shown} does not answer"));
            }
            Err(Unread::Failed(error)) => {
                return refuse(Reason::WrapperNotFound, format!("wrapper {shown} cannot be read: {error}"));
            }
        };
        match self.surroundings.judge(path, &stamp, user) {
            Some(finding) if finding.refused => return refuse(Reason::UntrustedFile, finding.message),
            Some(finding) => warnings.push((Reason::UntrustedFile, finding.message)),
            None => {}
        }
        if !stamp.is_executable() {
            let message = format!("wrapper {shown} is not executable; run `chmod +x {}`", path.display());
            return refuse(Reason::NotExecutable, message);
        }
        if let Some(message) = bad_interpreter(&known.head, &shown, path) {
            return refuse(Reason::BadInterpreter, message);
        }
        match &written.sha256 {
            // Of a larger one only the start looks at every byte.
            Some(pinned) if known.is_whole && *pinned != digest::digits(&known.hash) => refuse(
                Reason::DigestMismatch,
                format!(
                    "wrapper {shown} is not the one that is pinned: its sha256 is {}, the manifest says {pinned}",
                    digest::digits(&known.hash)
                ),
            ),
            Some(_) | None => Ok(Ok(known.hash)),
        }
    }

    /// The content of a file, from memory where the file is still the same.
    fn content(&mut self, path: &Path, complete: bool) -> Result<(Stamp, Known), Unread> {
        let (now, before) = (disk::stat(path), self.known.get(path));
        if let Some((then, known)) = before
            && (now == Ok(*then) || now == Err(Errno::TIMEDOUT))
        {
            // What does not answer has not changed as far as anybody knows: nothing restarts for it.
            return Ok((*then, known.clone()));
        }
        let (stamp, known) = match disk::read(path, CONTENT_MAX, complete) {
            Ok(content) => {
                let head = content.bytes[..content.bytes.len().min(SHEBANG_MAX)].to_vec();
                (content.stamp, Known { hash: disk::sha256(&content.bytes), head, is_whole: true })
            }
            Err(Unread::TooLarge(_)) => {
                let stamp = disk::stat(path).map_err(|errno| Unread::Failed(errno.into()))?;
                (stamp, Known { hash: disk::sha256(stamp.written().as_bytes()), head: Vec::new(), is_whole: false })
            }
            Err(error) if error.is_silent() => return self.known.get(path).cloned().ok_or(error),
            Err(error) => {
                self.known.remove(path);
                return Err(error);
            }
        };
        self.known.insert(path.to_path_buf(), (stamp, known.clone()));
        Ok((stamp, known))
    }

    /// Which file was read there.
    pub fn identity(&self, path: &Path) -> Option<Identity> {
        self.known.get(path).map(|(stamp, _)| stamp.identity())
    }

    /// First 16 hex digits of the sha256 of a file that was resolved.
    pub fn sha_of(&self, path: &Path) -> String {
        self.known.get(path).map(|(_, known)| disk::short_hex(&known.hash)).unwrap_or_default()
    }

    /// Drops what is known of files that nobody names any more.
    pub fn retain(&mut self, used: impl Fn(&Path) -> bool, known: impl Fn(&Name) -> bool) {
        self.known.retain(|path, _| used(path));
        for (name, _) in self.files.extract_if(.., |name, _| !known(name)) {
            self.recall.forget(&name);
        }
    }
}

/// What does not answer may well be there: nothing behind it is taken in its place.
fn may_be_there(place: &Path) -> bool {
    matches!(disk::lstat(place), Ok(_) | Err(Errno::TIMEDOUT))
}

fn not_found(written: &Path, places: usize) -> Fault {
    let written = written.display();
    let message = match places {
        1 => format!("wrapper {written} does not exist"),
        places => format!("wrapper {written} is in none of the {places} places tried"),
    };
    Fault { reason: Reason::WrapperNotFound, message }
}

fn digest_of(parts: &[u8]) -> spec::Digest {
    if parts.is_empty() {
        return spec::Digest::default();
    }
    let hash = disk::sha256(&[b"plugd content 1\0".as_slice(), parts].concat());
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash[..16]);
    spec::Digest(digest)
}

/// The interpreter that a `#!` line names and that is not there.
fn bad_interpreter(head: &[u8], shown: &str, path: &Path) -> Option<String> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let program = line.trim_start_matches([' ', '\t']).split([' ', '\t']).next()?;
    if program.ends_with('\r') {
        let path = path.display();
        return Some(format!("wrapper {shown} has DOS line ends; run `sed -i 's/\\r$//' {path}`"));
    }
    if program.is_empty() {
        return Some(format!("wrapper {shown} names no interpreter after #!; write `#!/bin/sh`"));
    }
    let there = match disk::stat(Path::new(program)) {
        Ok(stamp) => stamp.is_file(),
        Err(errno) => errno == Errno::TIMEDOUT,
    };
    // A relative interpreter is looked for in the service's working directory, which is not ours.
    (program.starts_with('/') && !there).then(|| {
        format!("wrapper {shown} wants the interpreter {program}, which does not exist; install it or mend line 1")
    })
}

/// The uid of `name[:group]` or of a number.
fn uid_of(user: &str) -> Option<u32> {
    let name = user.split(':').next()?;
    if let Ok(uid) = name.parse() {
        return Some(uid);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}
