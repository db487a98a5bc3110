//! Moving the bytes of one pipe, one step at a time: into its file, or away.
//!
//! Far from a file's limit a step is one splice. Near it (and near a rate limit) the pipe is looked
//! at first, so that what is moved ends at a line's end and no line is split over two files. A line
//! that would be longer than a whole file is let grow to twice `maxSize` and then cut, which is noted.

use rustix::io::Errno;

use super::file::LogFile;
use super::index::Mark;
use super::look::Look;
use super::loss::{Cause, Loss, Rate, Trouble, Verdict};
use super::pipe::{Kit, Pipe};
use super::scratch::LOOK_MAX;

/// The most that one splice moves: four times what a grown pipe holds, so other pipes get their turn.
const STEP_MAX: u64 = 1 << 20;
const LOOK: u64 = LOOK_MAX as u64;
const OVER_RATE: &str = "logs.rateLimit is exceeded";

/// A file and what is wrong with it.
#[derive(Debug)]
pub(super) struct Target {
    pub file: LogFile,
    /// Why it could not be opened when it was to be.
    pub unopened: Option<String>,
    pub trouble: Option<Trouble>,
    /// How many pipes feed it.
    pub pipes: usize,
    /// As it was entered in the budget.
    pub max_size: u64,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes left the pipe; there may be more.
    Moved(u64),
    /// Nothing in the pipe now.
    Empty,
    /// Nothing now and never again.
    Ended,
    /// The disk takes nothing; the bytes stay in the pipe until then.
    Wait(std::time::Instant),
    /// A loss has ended.
    Recovered,
}

/// One step. `target` is none where there is no log directory.
pub(super) fn advance(pipe: &mut Pipe, target: Option<&mut Target>, kit: &mut Kit) -> Step {
    let step = match target {
        Some(target) => store(pipe, target, kit),
        None => pass(pipe, kit),
    };
    match step {
        Ok(step) => step,
        Err(Errno::AGAIN | Errno::INTR) => Step::Empty,
        // A pipe that cannot be read is as good as closed.
        Err(_) => Step::Ended,
    }
}

/// An error is one of the pipe, never of the file.
fn store(pipe: &mut Pipe, target: &mut Target, kit: &mut Kit) -> Result<Step, Errno> {
    let now = kit.now.mono;
    let tokens = pipe.rate.as_mut().map(|rate| rate.refill(now));
    let is_over_rate = match (&pipe.rate, &pipe.loss) {
        (Some(rate), Some(Loss { cause: Cause::Rate, .. })) => !rate.has_recovered(),
        (Some(_), _) => tokens == Some(0),
        (None, _) => false,
    };
    if is_over_rate {
        return drop_some(pipe, kit, Cause::Rate, OVER_RATE);
    }
    if let Some(trouble) = &target.trouble
        && now < trouble.next
    {
        return refuse(pipe, target, kit);
    }
    // Making a file and its index costs a filesystem more than everything else of a start.
    if !target.file.is_open()
        && pipe.loss.is_none()
        && let Some(step) = pipe.nothing_yet()?
    {
        return Ok(step);
    }
    if let Err(error) = target.file.ready(&mut kit.index, kit.now) {
        return fail(pipe, target, kit, &error);
    }
    if pipe.loss.is_some() {
        return recover(pipe, target, kit);
    }
    let end = Limit::of(pipe.logs.max_size, tokens, target, kit);
    if end.rotate {
        return rotate(pipe, target, kit);
    }
    let (length, then_rotate) = end.length(pipe, target, kit)?;
    if length == 0 {
        return match (then_rotate, pipe.loss.is_some()) {
            (true, _) => rotate(pipe, target, kit),
            (false, true) => Ok(Step::Moved(0)),
            (false, false) => Ok(Step::Ended),
        };
    }
    let step = move_bytes(pipe, target, kit, length, end.looks)?;
    match then_rotate && target.trouble.is_none() && step == Step::Moved(length) {
        true => rotate(pipe, target, kit),
        false => Ok(step),
    }
}

/// How far the file and the rate let the next move go.
#[derive(Debug, Clone, Copy)]
struct Limit {
    bytes: u64,
    /// The file has reached its size within a line: only the end of that line is wanted.
    within_line: bool,
    /// The limit is the file's, not the rate's.
    of_file: bool,
    /// It could not be rotated: lines go on up to the last byte that it may have.
    held: bool,
    looks: bool,
    /// Rotate before anything is moved.
    rotate: bool,
}

impl Limit {
    fn of(wanted: u64, tokens: Option<u64>, target: &Target, kit: &mut Kit) -> Limit {
        let max = kit.budget.max_size(wanted);
        let size = target.file.size();
        let held = target.file.no_rotation_until.is_some_and(|until| kit.now.mono < until);
        let cut = size >= max.saturating_mul(2);
        let full = size >= max && (!held || cut);
        let rotate = full && (cut || target.file.ends_line());
        let room = if full || held { max.saturating_mul(2).saturating_sub(size) } else { max - size };
        let tokens = tokens.unwrap_or(u64::MAX);
        let bytes = room.min(tokens);
        Limit { bytes, within_line: full, of_file: room <= tokens, held, looks: full || bytes < 2 * LOOK, rotate }
    }

    /// How many bytes to move, and whether the file is to be rotated after them.
    fn length(self, pipe: &mut Pipe, target: &Target, kit: &mut Kit) -> Result<(u64, bool), Errno> {
        let Some(fd) = &pipe.fd else { return Ok((0, false)) };
        if !self.looks {
            return Ok(((self.bytes - LOOK).min(STEP_MAX), false));
        }
        let bytes = kit.scratch.look(fd, self.bytes)?;
        let seen = bytes.len() as u64;
        if self.held && self.of_file && !self.within_line {
            return Ok((seen, false));
        }
        if self.within_line {
            let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at as u64 + 1);
            return Ok((end.unwrap_or(seen), end.is_some()));
        }
        if seen < self.bytes {
            return Ok((seen, false));
        }
        // All that fits is there: move up to the last line's end within it.
        match bytes.iter().rposition(|byte| *byte == b'\n').map(|at| at as u64 + 1) {
            Some(end) if self.of_file => Ok((end, true)),
            // The loss begins behind it, so that the pipe is not held to the rate but emptied.
            Some(end) => {
                over_rate(pipe);
                Ok((end, false))
            }
            None if !self.of_file => {
                over_rate(pipe);
                Ok((0, false))
            }
            None if target.file.size() > 0 && target.file.ends_line() => Ok((0, true)),
            None => Ok((seen, false)),
        }
    }
}

fn over_rate(pipe: &mut Pipe) {
    pipe.rate.iter_mut().for_each(Rate::exhaust);
    pipe.loss.get_or_insert_with(|| Loss::new(Cause::Rate, OVER_RATE.into()));
}

/// Moves exactly `length` bytes where a look has seen them, else at most so many.
fn move_bytes(pipe: &mut Pipe, target: &mut Target, kit: &mut Kit, length: u64, exactly: bool) -> Result<Step, Errno> {
    let from = target.file.size();
    let mut moved = 0;
    let outcome = loop {
        let Some(fd) = &pipe.fd else { break Ok(0) };
        match target.file.take(fd, (length - moved) as usize) {
            Ok(0) => break Ok(0),
            Ok(count) => {
                moved += count as u64;
                if moved >= length || !exactly {
                    break Ok(count);
                }
            }
            Err(errno) => break Err(errno),
        }
    };
    if moved > 0 {
        target.trouble = None;
        pipe.count(moved);
        pipe.rate.iter_mut().for_each(|rate| rate.spend(moved));
        target.file.note_time(from, &mut kit.index, kit.now);
        copy(pipe, &target.file, from, kit);
        pipe.matched |= pipe.look.as_mut().is_some_and(|look| look.advance(&target.file, &mut kit.buffer));
    }
    match outcome {
        Ok(0) if moved == 0 => Ok(Step::Ended),
        Ok(_) => Ok(Step::Moved(moved)),
        Err(Errno::AGAIN | Errno::INTR) if moved == 0 => Ok(Step::Empty),
        Err(Errno::AGAIN | Errno::INTR) => Ok(Step::Moved(moved)),
        Err(errno) => fail(pipe, target, kit, &errno.into()),
    }
}

fn rotate(pipe: &mut Pipe, target: &mut Target, kit: &mut Kit) -> Result<Step, Errno> {
    if !target.file.ends_line() {
        target.file.mark(Mark::Cut, &mut kit.index);
    }
    if let Some(age) = pipe.logs.max_age {
        kit.budget.expire(&target.file.place, age, kit.now.micros / 1_000_000, &mut kit.index);
    }
    let max = kit.budget.max_size(pipe.logs.max_size);
    match target.file.rotate(pipe.logs.max_files, max, &mut kit.index, &mut kit.budget, kit.now) {
        Ok(()) => {
            pipe.look.iter_mut().for_each(Look::rewind);
            Ok(Step::Moved(0))
        }
        Err(error) => fail(pipe, target, kit, &error),
    }
}

/// The file and what is wrong with it.
pub(super) fn why(target: &Target, error: &std::io::Error) -> String {
    format!("{}: {}", target.file.place.base.display(), plain(error))
}

fn fail(pipe: &mut Pipe, target: &mut Target, kit: &mut Kit, error: &std::io::Error) -> Result<Step, Errno> {
    let why = why(target, error);
    target.trouble = Some(Trouble::again(target.trouble.as_ref(), why, kit.now.mono));
    refuse(pipe, target, kit)
}

/// The file takes nothing now: leave the bytes where they are, or drop them.
fn refuse(pipe: &mut Pipe, target: &Target, kit: &mut Kit) -> Result<Step, Errno> {
    let Some(trouble) = &target.trouble else { return Ok(Step::Moved(0)) };
    let block = matches!(pipe.logs.on_stall, crate::model::spec::OnStall::Block);
    match trouble.verdict(block, kit.now.mono) {
        Verdict::Wait(until) => Ok(Step::Wait(until)),
        Verdict::Drop => drop_some(pipe, kit, Cause::Disk, &trouble.why),
    }
}

fn drop_some(pipe: &mut Pipe, kit: &mut Kit, cause: Cause, why: &str) -> Result<Step, Errno> {
    let Some(fd) = &pipe.fd else { return Ok(Step::Ended) };
    let seen = kit.scratch.look(fd, LOOK)?;
    let Some(last) = seen.last().copied() else { return Ok(Step::Ended) };
    let length = seen.len();
    let bytes = kit.scratch.discard(fd, length)? as u64;
    let loss = pipe.loss.get_or_insert_with(|| Loss::new(cause, why.to_string()));
    loss.add(bytes, last != b'\n');
    pipe.count_dropped(bytes);
    Ok(Step::Moved(bytes))
}

/// The disk or the rate takes output again: let the rest of a dropped line go too, then go on.
fn recover(pipe: &mut Pipe, target: &mut Target, kit: &mut Kit) -> Result<Step, Errno> {
    if target.trouble.is_some()
        && let Err(error) = target.file.has_room().and_then(|()| make_room(pipe, target, kit))
    {
        return fail(pipe, target, kit, &error);
    }
    target.trouble = None;
    let Some(mut loss) = pipe.loss.take() else { return Ok(Step::Recovered) };
    if loss.mid_line {
        let Some(fd) = &pipe.fd else { return Ok(Step::Ended) };
        let rest = kit.scratch.look(fd, LOOK).inspect_err(|_| pipe.loss = Some(loss.clone()))?;
        let end = rest.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let length = end.unwrap_or(rest.len());
        let bytes = if length == 0 { 0 } else { kit.scratch.discard(fd, length)? as u64 };
        loss.add(bytes, end.is_none());
        pipe.count_dropped(bytes);
        if end.is_none() {
            pipe.loss = Some(loss);
            return Ok(if bytes == 0 { Step::Ended } else { Step::Moved(bytes) });
        }
    }
    if loss.bytes == 0 {
        return Ok(Step::Moved(0));
    }
    target.file.mark(Mark::Dropped(loss.bytes), &mut kit.index);
    target.file.mark(Mark::Time(kit.now.micros), &mut kit.index);
    Ok(Step::Recovered)
}

/// A full file that could not be put aside: perhaps it can be now.
fn make_room(pipe: &Pipe, target: &mut Target, kit: &mut Kit) -> std::io::Result<()> {
    let max = kit.budget.max_size(pipe.logs.max_size);
    match target.file.size() >= max.saturating_mul(2) {
        true => target.file.rotate(pipe.logs.max_files, max, &mut kit.index, &mut kit.budget, kit.now),
        false => Ok(()),
    }
}

/// The copy on plugd's stdout of what was just stored.
fn copy(pipe: &Pipe, file: &LogFile, from: u64, kit: &mut Kit) {
    let Some(copier) = kit.copier.as_mut().filter(|_| pipe.logs.tee) else { return };
    if !copier.takes(&pipe.label, file.size() - from) {
        return;
    }
    let mut at = from;
    while at < file.size() {
        let wanted = kit.buffer.len().min((file.size() - at) as usize);
        let count = file.read_at(&mut kit.buffer[..wanted], at);
        if count == 0 {
            return;
        }
        copier.offer(&pipe.label, &kit.buffer[..count]);
        at += count as u64;
    }
}

/// No log directory: output is counted, copied and looked at, and kept nowhere.
fn pass(pipe: &mut Pipe, kit: &mut Kit) -> Result<Step, Errno> {
    /// As much as the last words of a life may be.
    const LAST_MAX: usize = 2048;
    let Some(fd) = &pipe.fd else { return Ok(Step::Ended) };
    let bytes = kit.scratch.take(fd)?;
    if bytes.is_empty() {
        return Ok(Step::Ended);
    }
    if let Some(copier) = kit.copier.as_mut().filter(|_| pipe.logs.tee)
        && copier.takes(&pipe.label, bytes.len() as u64)
    {
        copier.offer(&pipe.label, bytes);
    }
    pipe.last.extend_from_slice(&bytes[bytes.len().saturating_sub(LAST_MAX)..]);
    let surplus = pipe.last.len().saturating_sub(LAST_MAX);
    pipe.last.drain(..surplus);
    pipe.matched |= pipe.look.as_mut().is_some_and(|look| look.see(bytes));
    let count = bytes.len() as u64;
    pipe.count(count);
    Ok(Step::Moved(count))
}

fn plain(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => "no space left on the device".into(),
        Some(libc::EDQUOT) => "the disk quota is used up".into(),
        Some(libc::ELOOP) => "it is a symbolic link".into(),
        _ => error.to_string(),
    }
}
