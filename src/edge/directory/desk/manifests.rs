//! One manifest: read, accepted or refused. What was in force of a refused one stays.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::super::accepted::Accepted;
use super::super::disk::{self, Stamp, Unread};
use super::super::names::{Candidate, candidate};
use super::super::owners::Kind;
use super::super::parse::{self, Context, Parsed, Refusal};
use super::super::resolve::{Busy, Resolution};
use super::record::{Record, Service};
use super::{Desk, Seen};
use crate::controller::Resolved;
use crate::model::digest;
use crate::model::name::Name;
use crate::model::reason::Reason;

/// A file that cannot be read is tried again with the tick that all idles by.
const UNREAD_RETRY: Duration = Duration::from_secs(1);

impl Desk {
    pub(super) fn look_at_manifest(&mut self, file: &str, stem: &str, complete: bool, now: Duration) -> Seen {
        let path = self.path_of(file);
        let before = self.records.get(file).filter(|record| !record.stale);
        if before.is_some_and(|record| record.stamp.is_some() && disk::stat(&path).ok() == record.stamp) {
            self.here_again(file);
            return Seen::Done;
        }
        let content = match disk::read(&path, disk::MANIFEST_MAX, complete) {
            Ok(content) => content,
            Err(Unread::Absent) => return Seen::Absent,
            Err(Unread::Busy) => return Seen::Busy(path),
            Err(Unread::NotAFile(kind)) => {
                let message = format!("{file} is {kind}, not a regular file; it is not opened");
                return self.refuse(file, None, Refusal::of_file(Reason::NotARegularFile, message), "");
            }
            Err(Unread::TooLarge(size)) => {
                let message = format!("{file} has {size} bytes; a manifest has at most 65536");
                return self.refuse(file, None, Refusal::of_file(Reason::TooLarge, message), "");
            }
            Err(Unread::Failed(error)) => {
                let message = format!("{file} cannot be read: {error}");
                let refusal = Refusal::of_service(stem, Reason::Unreadable, message);
                self.refuse(file, None, refusal, "");
                // No event tells that a disk answers again.
                self.keep(file, |record| record.stale = true);
                return Seen::Later(now + UNREAD_RETRY);
            }
        };
        // open(2) shows a file that it creates a moment before it counts its writer.
        let newborn = content.bytes.is_empty() && !complete && !disk::is_quiet(&content.stamp);
        if newborn && !self.records.contains_key(file) {
            return Seen::Busy(path);
        }
        let sha = digest::short(&content.bytes);
        let links = disk::hops(&path);
        let trust = self.surroundings.judge(&path, &content.stamp, None);
        if let Some(record) = self.records.get_mut(file)
            && !record.stale
            && record.stamp.is_some()
            && (record.sha == sha && record.trust == trust && record.links == links)
        {
            record.stamp = Some(content.stamp);
            self.here_again(file);
            return Seen::Done;
        }
        if let Some(finding) = trust.as_ref().filter(|finding| finding.refused) {
            let refusal = Refusal::of_service(stem, Reason::UntrustedFile, finding.message.clone());
            let seen = self.refuse(file, Some(content.stamp), refusal, &sha);
            self.keep(file, |record| (record.trust, record.links) = (trust, links));
            return seen;
        }
        let context = match self.context(stem) {
            Ok(context) => context,
            Err(busy) => return Seen::Busy(busy),
        };
        let (parsed, mentions) = parse::manifest(file, stem, &self.dir, &content.bytes, &context);
        match parsed {
            Err(refusal) => {
                let drop_ins = context.drop_ins.iter().map(|drop_in| self.path_of(&drop_in.file));
                let closed = [path].into_iter().chain(drop_ins).find_map(|path| self.closed(&path));
                let refusal = match closed {
                    Some(target) => refusal.without_quotes(&target),
                    None => refusal,
                };
                let seen = self.refuse(file, Some(content.stamp), refusal, &sha);
                self.keep(file, |record| (record.trust, record.links, record.mentions) = (trust, links, mentions));
                self.claims_changed(file);
                seen
            }
            Ok(parsed) => {
                let mut services = Vec::with_capacity(parsed.len());
                for Parsed { spec, origins, mut warnings } in parsed {
                    warnings.extend(trust.iter().map(|finding| (Reason::UntrustedFile, finding.message.clone())));
                    warnings.extend(context.left_out.iter().cloned());
                    match self.resolver.resolve(&spec, complete) {
                        Ok(resolution) => {
                            let origins = self.origins(origins);
                            services.push(Service { spec, warnings, resolution, origins });
                        }
                        Err(busy) => return Seen::Busy(busy.0),
                    }
                }
                let accepted = Accepted::of_manifest(&sha, &content, &context);
                let kept = self.last_good.keep(file, self.kept(file), accepted);
                let mut record = Record::new(Kind::Manifest, Some(content.stamp), sha);
                record.kept = kept;
                (record.trust, record.services, record.mentions, record.links) = (trust, services, mentions, links);
                self.accept(file, record);
                self.claims_changed(file);
                Seen::Done
            }
        }
    }

    /// A controller keeps none: it is up for months and prints them never.
    fn origins(&self, origins: BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
        self.looks_once.then_some(origins)
    }

    /// Puts a valid record in force.
    pub fn accept(&mut self, file: &str, record: Record) {
        self.problems.remove(file);
        let names: Vec<Name> = record.services.iter().map(|service| service.spec.name.clone()).collect();
        let mut touched = self.owners.miss(file, false);
        touched.extend(self.owners.declare(file, record.kind, names));
        self.unlink(file);
        self.records.insert(file.to_string(), Box::new(record));
        self.link(file);
        self.settle_all(touched);
    }

    /// Refuses what is in the file now; what was in force of it stays.
    pub fn refuse(&mut self, file: &str, stamp: Option<Stamp>, refusal: Refusal, sha: &str) -> Seen {
        let mut touched = self.owners.miss(file, false);
        let stamp = stamp.or_else(|| disk::stat(&self.path_of(file)).ok());
        let named = refusal.name.as_ref();
        let first = |desk: &mut Desk| {
            let record = desk.restored(file).or_else(|| desk.moved(file, named?));
            record.unwrap_or_else(|| Record::new(Kind::Manifest, stamp, String::new()))
        };
        // What was under this name before, if anything, is older than what has got it now.
        let taken = named.and_then(|name| self.renamed(file, name));
        if let Some(record) = taken.or_else(|| (!self.records.contains_key(file)).then(|| first(self))) {
            self.unlink(file);
            self.records.insert(file.to_string(), Box::new(record));
            self.link(file);
        }
        let Some(record) = self.records.get_mut(file) else { return Seen::Done };
        let before = std::mem::replace(&mut record.sha, sha.to_string());
        if record.refused.is_none() && !record.services.is_empty() {
            record.good_sha = Some(before);
        }
        (record.stamp, record.stale) = (stamp, false);
        let in_force = record.services.iter().map(|service| service.spec.name.clone());
        let names: Vec<Name> =
            if record.services.is_empty() { refusal.name.iter().cloned().collect() } else { in_force.collect() };
        let (kind, of_file) = (record.kind, refusal.name.is_none());
        let (reason, message) = (refusal.reason, refusal.message.clone());
        record.refused = Some(refusal);
        if of_file {
            self.note_problem(file, reason, message);
        } else {
            self.problems.remove(file);
        }
        touched.extend(self.owners.declare(file, kind, names));
        self.settle_all(touched);
        Seen::Done
    }

    /// The version of the file that was in force when the last controller ended, if the file is one
    /// that the first scan finds and refuses: it goes on, as it would have there.
    pub(super) fn restored(&mut self, file: &str) -> Option<Record> {
        let (accepted, kept) = self.last_good.take(file)?;
        let context = accepted.context();
        let name = Path::new(file).file_name().unwrap_or_default();
        let (kind, parsed) = match candidate(name) {
            Candidate::Manifest { stem } => {
                let (parsed, _) = parse::manifest(file, &stem, &self.dir, accepted.main.as_bytes(), &context);
                (Kind::Manifest, parsed.ok()?)
            }
            Candidate::Script { stem } => {
                let parsed = parse::script(file, &stem, &self.dir, accepted.main.as_bytes(), &context);
                (Kind::Script, vec![parsed.ok()??])
            }
            Candidate::Defaults
            | Candidate::Settings
            | Candidate::DropIns { .. }
            | Candidate::Wrappers
            | Candidate::Mcp
            | Candidate::Misnamed { .. }
            | Candidate::Refused { .. }
            | Candidate::Skipped
            | Candidate::Other => return None,
        };
        let mut record = Record::new(kind, None, accepted.sha.clone());
        record.kept = kept;
        for Parsed { spec, origins, warnings } in parsed {
            let mut resolution = self.resolver.resolve(&spec, true).unwrap_or_else(|Busy(path)| Resolution::busy(path));
            // What lies there now is what was refused: it goes on as what it was.
            if let Some(content) = accepted.content {
                resolution.resolved = Resolved::Found { wrapper: Some(self.dir.join(file)), content };
            }
            let origins = self.origins(origins);
            record.services.push(Service { spec, warnings, resolution, origins });
        }
        Some(record)
    }

    /// As [`Desk::restored`], of a file that has got another name since: the service that it names was
    /// declared by a file that is not there any more.
    fn moved(&mut self, file: &str, name: &Name) -> Option<Record> {
        let before = self.owners.recorded_owner(name).filter(|before| self.is_scanning() && *before != file)?;
        let before = before.to_string();
        if self.path_of(&before).symlink_metadata().is_ok() {
            return None;
        }
        let mut record = self.restored(&before)?;
        if record.services.iter().all(|service| service.spec.name != *name) {
            return None;
        }
        // Kept under the new name from now on.
        record.kept = self.last_good.rename(&before, file, record.kept);
        Some(record)
    }

    /// As [`Desk::moved`], of a file that was refused and gets another name while we look on.
    fn renamed(&mut self, file: &str, name: &Name) -> Option<Record> {
        let before = self.owners.owner(name).filter(|before| *before != file)?.to_string();
        if self.path_of(&before).symlink_metadata().is_ok() {
            return None;
        }
        let old = self.records.get_mut(&before)?;
        if old.services.iter().all(|service| service.spec.name != *name) {
            return None;
        }
        let sha = old.good_sha.as_ref().filter(|_| old.refused.is_some()).unwrap_or(&old.sha);
        let mut record = Record::new(old.kind, None, sha.clone());
        record.services.clone_from(&old.services);
        let kept = std::mem::take(&mut old.kept);
        record.kept = self.last_good.follow(&before, file, (self.kept(file), kept));
        Some(record)
    }

    /// The file has its old name again before that was gone for good: what is kept comes back with it.
    pub(super) fn keep_again(&mut self, file: &str) {
        let Some(record) = self.records.get(file).filter(|record| record.kept == 0) else { return };
        let owners = record.services.iter().filter_map(|service| self.owners.owner(&service.spec.name));
        let away = owners.filter(|owner| *owner != file && self.path_of(owner).symlink_metadata().is_err());
        let Some(owner) = away.map(str::to_string).next() else { return };
        let kept = self.records.get_mut(&owner).map_or(0, |other| std::mem::take(&mut other.kept));
        if kept > 0 {
            let kept = self.last_good.follow(&owner, file, (0, kept));
            self.records.get_mut(file).into_iter().for_each(|record| record.kept = kept);
        }
    }

    pub(super) fn kept(&self, file: &str) -> usize {
        self.records.get(file).map_or(0, |record| record.kept)
    }

    pub(super) fn keep(&mut self, file: &str, change: impl FnOnce(&mut Record)) {
        self.unlink(file);
        if let Some(record) = self.records.get_mut(file) {
            change(record);
        }
        self.link(file);
    }

    /// A script that is a service by itself, with its head and what that was read with.
    pub fn discovered(
        &mut self,
        file: &str,
        (head, context): (&[u8], &Context),
        parsed: Parsed,
        stamp: Stamp,
        complete: bool,
    ) -> Seen {
        let Parsed { spec, origins, warnings } = parsed;
        let resolution = match self.resolver.resolve(&spec, complete) {
            Ok(resolution) => resolution,
            Err(busy) => return Seen::Busy(busy.0),
        };
        let content = resolution.resolved.content();
        let path = self.dir.join(file);
        let mut record = Record::new(Kind::Script, Some(stamp), self.resolver.sha_of(&path));
        record.services.push(Service { spec, warnings, resolution, origins: self.origins(origins) });
        record.links = disk::hops(&path);
        let accepted = Accepted::of_script(&record.sha, head, context, content);
        record.kept = self.last_good.keep(file, self.kept(file), accepted);
        self.accept(file, record);
        Seen::Done
    }
}
