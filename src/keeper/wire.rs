//! What keeper and controller say to each other, one packet (SOCK_SEQPACKET) a message.
//!
//! A packet is an operation (one byte) and its fields: little-endian numbers, byte strings with
//! their length in front, C strings with their NUL. The version of the protocol travels once, in
//! `Welcome` and `Hello`. A reader skips operations that it does not know and ignores what stands
//! behind the fields that it knows, so that either side may be the newer one: a field is only ever
//! added at the end.
//!
//! Pure: bytes in, values out. Decoding borrows, is bounded by the packet and never panics.

use std::ffi::CStr;

/// Raised when an old reader could misunderstand, not when something is added.
pub const PROTOCOL: u32 = 1;
/// Longest packet. Half of what a default socket buffer (212,992 bytes, doubled) can hold.
pub const PACKET_MAX: usize = 256 * 1024;
/// A spawn request longer than this travels in a sealed memfd: a usual environment is 4 KiB.
pub const INLINE_MAX: usize = 64 * 1024;
/// Longest spawn request in a memfd: the kernel takes 6 MiB of arguments and environment.
pub const LARGE_MAX: usize = 8 * 1024 * 1024;
/// Longest key: a name's 63 bytes, `/`, ten digits, and as much again for helpers.
pub const KEY_MAX: usize = 128;
/// Longest blob of an entry, from `interfaces.md`; 1,000 services make 1 MiB of them at the worst.
pub const BLOB_MAX: usize = 1024;
/// Descriptors beside a spawn request: 4 of its own and its extra ones. Half of the keeper's reserve.
pub const EXTRA_FDS_MAX: usize = 28;
pub const FDS_MAX: usize = EXTRA_FDS_MAX + 4;
/// Arguments, or variables of an environment.
const STRINGS_MAX: usize = 65_536;
/// Supplementary groups (NGROUPS_MAX) and limits (RLIM_NLIMITS is 16).
const NUMBERS_MAX: usize = 65_536;

/// The packet is not what its operation promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed packet")]
pub struct Malformed;

type Read<T> = Result<T, Malformed>;

/// (instance key, life): what the controller calls a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id<'a> {
    pub key: &'a [u8],
    pub life: u64,
}

/// Controller to keeper.
#[derive(Debug, Clone, PartialEq)]
pub enum Request<'a> {
    /// The first word of a controller. `grace_ms`: of a shutdown without a controller, if not the keeper's own.
    Hello {
        protocol: u32,
        grace_ms: Option<u64>,
    },
    Spawn(Box<Spawn<'a>>),
    /// The request lies in the sealed memfd that is the packet's first descriptor.
    SpawnLarge(Id<'a>),
    SetBlob(Id<'a>, &'a [u8]),
    Forget(Id<'a>),
    /// The child is killed if it has not executed its program yet.
    Abandon(Id<'a>),
    List,
    Deposit(&'a [u8]),
    Withdraw(&'a [u8]),
    Leave(i32),
    /// The next controller is started from this path.
    Upgrade(&'a CStr),
    /// The keeper executes this path in its own place.
    Reexec(&'a CStr),
    Pong,
}

/// What to run and how. Its descriptors travel in this order: cgroup, life line, stdin, extra ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Spawn<'a> {
    pub id: Id<'a>,
    pub flags: u32,
    pub program: &'a CStr,
    pub argv: Vec<&'a CStr>,
    pub env: Vec<&'a CStr>,
    pub working_dir: Option<&'a CStr>,
    pub identity: Option<Identity>,
    pub umask: Option<u32>,
    pub nice: Option<i32>,
    pub oom_score_adj: Option<i32>,
    /// (resource, soft, hard)
    pub limits: Vec<(u32, u64, u64)>,
    pub life_line: &'a [u8],
    /// The number that each extra descriptor gets.
    pub targets: Vec<i32>,
    pub blob: &'a [u8],
    pub stop_signal: i32,
    pub stop_grace_ms: u64,
}

/// Bits of [`Spawn::flags`].
pub mod flag {
    pub const CGROUP: u32 = 1;
    pub const LIFE_LINE: u32 = 2;
    pub const STDIN: u32 = 4;
    pub const SEPARATE_STDERR: u32 = 8;
    pub const LISTEN_PID: u32 = 16;
    pub const PLAIN_FORK: u32 = 32;
    pub const NO_NEW_PRIVS: u32 = 64;
    /// A helper that runs in a cgroup which already has processes.
    pub const JOINS_CGROUP: u32 = 128;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// Keeper to controller.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice<'a> {
    Welcome(Welcome),
    /// Descriptors: pidfd where it has not ended, log, log of stderr where it is separate.
    Entry(Entry<'a>),
    Listed,
    /// Descriptors: pidfd, log, log of stderr where it is separate.
    Spawned {
        id: Id<'a>,
        pid: i32,
        start_time: u64,
    },
    SpawnFailed {
        id: Id<'a>,
        stage: Stage,
        errno: i32,
    },
    Exited {
        id: Id<'a>,
        exit: Exit,
    },
    Deposited(&'a [u8]),
    Signal(i32),
    /// 0, or why the keeper could not be executed anew and goes on as it was.
    Reexecuted(i32),
    Ping,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    pub protocol: u32,
    pub keeper_pid: i32,
    /// Since the keeper's start, this one included.
    pub controllers_started: u32,
    /// How the controller before this one ended.
    pub last_end: Option<How>,
    /// Microseconds since the epoch.
    pub started_at: u64,
    /// TERM, INT or QUIT, where one came before this controller was started.
    pub stop_heard: Option<i32>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry<'a> {
    pub id: Id<'a>,
    pub pid: i32,
    /// Field 22 of /proc/PID/stat, in clock ticks since boot.
    pub start_time: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub spawned_at: u64,
    pub exit: Option<Exit>,
    pub blob: &'a [u8],
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Code(i32),
    Signal(i32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    pub how: How,
    pub core: bool,
    pub user_us: u64,
    pub system_us: u64,
    pub max_rss_kib: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub at: u64,
}

/// The step of a spawn that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// The keeper refused it: EEXIST, EBUSY, EMFILE, EINVAL.
    Request = 1,
    Pipe = 2,
    Clone = 3,
    Cgroup = 4,
    Session = 5,
    OomScore = 6,
    Limits = 7,
    Nice = 8,
    Groups = 9,
    Gid = 10,
    Uid = 11,
    NoNewPrivs = 12,
    Descriptors = 13,
    WorkingDir = 14,
    Exec = 15,
}

impl Stage {
    const ALL: [Stage; 15] = [
        Stage::Request,
        Stage::Pipe,
        Stage::Clone,
        Stage::Cgroup,
        Stage::Session,
        Stage::OomScore,
        Stage::Limits,
        Stage::Nice,
        Stage::Groups,
        Stage::Gid,
        Stage::Uid,
        Stage::NoNewPrivs,
        Stage::Descriptors,
        Stage::WorkingDir,
        Stage::Exec,
    ];

    pub fn from_number(number: u8) -> Option<Stage> {
        Self::ALL.into_iter().find(|stage| *stage as u8 == number)
    }
}

impl<'a> Request<'a> {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Request::Hello { protocol, grace_ms } => Writer::packet(b'H').u32(*protocol).option(*grace_ms, Writer::u64),
            Request::Spawn(spawn) => spawn.write(Writer::packet(b'S')),
            Request::SpawnLarge(id) => Writer::packet(b'M').id(*id),
            Request::SetBlob(id, blob) => Writer::packet(b'B').id(*id).bytes(blob),
            Request::Forget(id) => Writer::packet(b'F').id(*id),
            Request::Abandon(id) => Writer::packet(b'A').id(*id),
            Request::List => Writer::packet(b'L'),
            Request::Deposit(key) => Writer::packet(b'D').bytes(key),
            Request::Withdraw(key) => Writer::packet(b'W').bytes(key),
            Request::Leave(code) => Writer::packet(b'Q').i32(*code),
            Request::Upgrade(path) => Writer::packet(b'U').text(path),
            Request::Reexec(path) => Writer::packet(b'X').text(path),
            Request::Pong => Writer::packet(b'P'),
        }
        .0
    }

    /// None is an operation of a newer controller.
    pub fn decode(packet: &'a [u8]) -> Read<Option<Request<'a>>> {
        let mut from = Reader(packet);
        Ok(Some(match from.u8()? {
            b'H' => Request::Hello { protocol: from.u32()?, grace_ms: from.option(Reader::u64)? },
            b'S' => Request::Spawn(Box::new(Spawn::read(&mut from)?)),
            b'M' => Request::SpawnLarge(from.id()?),
            b'B' => Request::SetBlob(from.id()?, from.bytes(PACKET_MAX)?),
            b'F' => Request::Forget(from.id()?),
            b'A' => Request::Abandon(from.id()?),
            b'L' => Request::List,
            b'D' => Request::Deposit(from.bytes(KEY_MAX)?),
            b'W' => Request::Withdraw(from.bytes(KEY_MAX)?),
            b'Q' => Request::Leave(from.i32()?),
            b'U' => Request::Upgrade(from.text()?),
            b'X' => Request::Reexec(from.text()?),
            b'P' => Request::Pong,
            _ => return Ok(None),
        }))
    }
}

impl<'a> Spawn<'a> {
    fn write(&self, to: Writer) -> Writer {
        let identity = self.identity.as_ref();
        to.id(self.id)
            .u32(self.flags)
            .text(self.program)
            .list(&self.argv, |to, text| to.text(text))
            .list(&self.env, |to, text| to.text(text))
            .option(self.working_dir, Writer::text)
            .option(identity, |to, who| to.u32(who.uid).u32(who.gid).list(&who.groups, |to, group| to.u32(*group)))
            .option(self.umask, Writer::u32)
            .option(self.nice, Writer::i32)
            .option(self.oom_score_adj, Writer::i32)
            .list(&self.limits, |to, (resource, soft, hard)| to.u32(*resource).u64(*soft).u64(*hard))
            .bytes(self.life_line)
            .list(&self.targets, |to, target| to.i32(*target))
            .bytes(self.blob)
            .i32(self.stop_signal)
            .u64(self.stop_grace_ms)
    }

    fn read(from: &mut Reader<'a>) -> Read<Spawn<'a>> {
        Ok(Spawn {
            id: from.id()?,
            flags: from.u32()?,
            program: from.text()?,
            argv: from.list(STRINGS_MAX, Reader::text)?,
            env: from.list(STRINGS_MAX, Reader::text)?,
            working_dir: from.option(Reader::text)?,
            identity: from.option(|from| {
                Ok(Identity { uid: from.u32()?, gid: from.u32()?, groups: from.list(NUMBERS_MAX, Reader::u32)? })
            })?,
            umask: from.option(Reader::u32)?,
            nice: from.option(Reader::i32)?,
            oom_score_adj: from.option(Reader::i32)?,
            limits: from.list(NUMBERS_MAX, |from| Ok((from.u32()?, from.u64()?, from.u64()?)))?,
            life_line: from.bytes(PACKET_MAX)?,
            targets: from.list(EXTRA_FDS_MAX, Reader::i32)?,
            blob: from.bytes(PACKET_MAX)?, // too long is refused with an answer
            stop_signal: from.i32()?,
            stop_grace_ms: from.u64()?,
        })
    }
}

impl<'a> Notice<'a> {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Notice::Welcome(w) => Writer::packet(b'w')
                .u32(w.protocol)
                .i32(w.keeper_pid)
                .u32(w.controllers_started)
                .option(w.last_end, Writer::how)
                .u64(w.started_at)
                .option(w.stop_heard, Writer::i32),
            Notice::Entry(e) => Writer::packet(b'l')
                .id(e.id)
                .i32(e.pid)
                .u64(e.start_time)
                .u64(e.spawned_at)
                .option(e.exit, Writer::exit)
                .bytes(e.blob),
            Notice::Listed => Writer::packet(b'o'),
            Notice::Spawned { id, pid, start_time } => Writer::packet(b's').id(*id).i32(*pid).u64(*start_time),
            Notice::SpawnFailed { id, stage, errno } => Writer::packet(b'f').id(*id).u8(*stage as u8).i32(*errno),
            Notice::Exited { id, exit } => Writer::packet(b'e').id(*id).exit(*exit),
            Notice::Deposited(key) => Writer::packet(b'd').bytes(key),
            Notice::Signal(signal) => Writer::packet(b'k').i32(*signal),
            Notice::Reexecuted(errno) => Writer::packet(b'x').i32(*errno),
            Notice::Ping => Writer::packet(b'p'),
        }
        .0
    }

    /// None is an operation of a newer keeper.
    pub fn decode(packet: &'a [u8]) -> Read<Option<Notice<'a>>> {
        let mut from = Reader(packet);
        Ok(Some(match from.u8()? {
            b'w' => Notice::Welcome(Welcome {
                protocol: from.u32()?,
                keeper_pid: from.i32()?,
                controllers_started: from.u32()?,
                last_end: from.option(Reader::how)?,
                started_at: from.u64()?,
                stop_heard: from.option(Reader::i32)?,
            }),
            b'l' => Notice::Entry(Entry {
                id: from.id()?,
                pid: from.i32()?,
                start_time: from.u64()?,
                spawned_at: from.u64()?,
                exit: from.option(Reader::exit)?,
                blob: from.bytes(BLOB_MAX)?,
            }),
            b'o' => Notice::Listed,
            b's' => Notice::Spawned { id: from.id()?, pid: from.i32()?, start_time: from.u64()? },
            b'f' => Notice::SpawnFailed {
                id: from.id()?,
                stage: Stage::from_number(from.u8()?).ok_or(Malformed)?,
                errno: from.i32()?,
            },
            b'e' => Notice::Exited { id: from.id()?, exit: from.exit()? },
            b'd' => Notice::Deposited(from.bytes(KEY_MAX)?),
            b'k' => Notice::Signal(from.i32()?),
            b'x' => Notice::Reexecuted(from.i32()?),
            b'p' => Notice::Ping,
            _ => return Ok(None),
        }))
    }
}

/// A packet in the making.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    fn packet(operation: u8) -> Writer {
        Writer::default().u8(operation)
    }

    pub fn u8(mut self, value: u8) -> Writer {
        self.0.push(value);
        self
    }

    pub fn u32(mut self, value: u32) -> Writer {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn u64(mut self, value: u64) -> Writer {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn i32(self, value: i32) -> Writer {
        self.u32(value.cast_unsigned())
    }

    pub fn bytes(mut self, value: &[u8]) -> Writer {
        self = self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(value);
        self
    }

    pub fn text(self, value: &CStr) -> Writer {
        self.bytes(value.to_bytes_with_nul())
    }

    pub fn id(self, id: Id<'_>) -> Writer {
        self.bytes(id.key).u64(id.life)
    }

    pub fn how(self, how: How) -> Writer {
        match how {
            How::Code(code) => self.u8(0).i32(code),
            How::Signal(signal) => self.u8(1).i32(signal),
        }
    }

    pub fn exit(self, exit: Exit) -> Writer {
        self.how(exit.how).u8(exit.core.into()).u64(exit.user_us).u64(exit.system_us).u64(exit.max_rss_kib).u64(exit.at)
    }

    pub fn option<T>(self, value: Option<T>, write: impl FnOnce(Writer, T) -> Writer) -> Writer {
        match value {
            Some(value) => write(self.u8(1), value),
            None => self.u8(0),
        }
    }

    pub fn list<T>(self, values: &[T], write: impl Fn(Writer, &T) -> Writer) -> Writer {
        let counted = self.u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
        values.iter().fold(counted, write)
    }
}

/// What is left of a packet.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub fn u8(&mut self) -> Read<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Read<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn i32(&mut self) -> Read<i32> {
        self.array().map(i32::from_le_bytes)
    }

    fn length(&mut self, max: usize) -> Read<usize> {
        usize::try_from(self.u32()?).ok().filter(|length| *length <= max).ok_or(Malformed)
    }

    pub fn bytes(&mut self, max: usize) -> Read<&'a [u8]> {
        let length = self.length(max)?;
        self.take(length)
    }

    pub fn text(&mut self) -> Read<&'a CStr> {
        CStr::from_bytes_with_nul(self.bytes(LARGE_MAX)?).map_err(|_| Malformed)
    }

    pub fn id(&mut self) -> Read<Id<'a>> {
        Ok(Id { key: self.bytes(KEY_MAX)?, life: self.u64()? })
    }

    pub fn flag(&mut self) -> Read<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    pub fn how(&mut self) -> Read<How> {
        Ok(if self.flag()? { How::Signal(self.i32()?) } else { How::Code(self.i32()?) })
    }

    pub fn exit(&mut self) -> Read<Exit> {
        Ok(Exit {
            how: self.how()?,
            core: self.flag()?,
            user_us: self.u64()?,
            system_us: self.u64()?,
            max_rss_kib: self.u64()?,
            at: self.u64()?,
        })
    }

    pub fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    /// Grows with what is there, never by what the count says.
    pub fn list<T>(&mut self, max: usize, read: impl Fn(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.length(max)?;
        (0..count).map(|_| read(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn requests() -> Vec<Request<'static>> {
        let id = Id { key: b"orders/0", life: 7 };
        let spawn = Spawn {
            id,
            flags: flag::CGROUP | flag::PLAIN_FORK,
            program: c"/bin/sh",
            argv: vec![c"sh", c"-c", c""],
            env: vec![c"A=b"],
            working_dir: Some(c"/"),
            identity: Some(Identity { uid: 1, gid: 2, groups: vec![3, u32::MAX] }),
            umask: Some(0o22),
            nice: Some(-5),
            oom_score_adj: None,
            limits: vec![(7, 1, u64::MAX)],
            life_line: b"orders/0 7",
            targets: vec![3, 9],
            blob: &[0, 255],
            stop_signal: 15,
            stop_grace_ms: 30_000,
        };
        vec![
            Request::Hello { protocol: PROTOCOL, grace_ms: Some(8000) },
            Request::Hello { protocol: PROTOCOL, grace_ms: None },
            Request::Spawn(Box::new(spawn)),
            Request::SpawnLarge(id),
            Request::SetBlob(id, b"blob"),
            Request::Forget(id),
            Request::Abandon(id),
            Request::List,
            Request::Deposit(b"listener"),
            Request::Withdraw(b""),
            Request::Leave(-1),
            Request::Upgrade(c"/usr/bin/plugd"),
            Request::Reexec(c"/proc/self/exe"),
            Request::Pong,
        ]
    }

    fn notices() -> Vec<Notice<'static>> {
        let id = Id { key: b"orders/0", life: u64::MAX };
        let exit = Exit { how: How::Signal(9), core: true, user_us: 1, system_us: 2, max_rss_kib: 3, at: u64::MAX };
        let welcome = Welcome {
            protocol: PROTOCOL,
            keeper_pid: 1,
            controllers_started: 2,
            last_end: Some(How::Code(78)),
            started_at: 3,
            stop_heard: Some(15),
        };
        let entry = Entry { id, pid: 5, start_time: 6, spawned_at: 7, exit: Some(exit), blob: b"blob" };
        vec![
            Notice::Welcome(welcome),
            Notice::Entry(Entry { exit: None, ..entry.clone() }),
            Notice::Entry(entry),
            Notice::Listed,
            Notice::Spawned { id, pid: 5, start_time: 6 },
            Notice::SpawnFailed { id, stage: Stage::WorkingDir, errno: 2 },
            Notice::Exited { id, exit },
            Notice::Deposited(b"listener"),
            Notice::Signal(15),
            Notice::Reexecuted(0),
            Notice::Ping,
        ]
    }

    #[test]
    fn every_message_is_read_as_it_was_written() {
        for request in requests() {
            assert_eq!(Request::decode(&request.encode()), Ok(Some(request.clone())));
        }
        for notice in notices() {
            assert_eq!(Notice::decode(&notice.encode()), Ok(Some(notice.clone())));
        }
    }

    #[test]
    fn a_message_cut_short_is_malformed_and_one_with_more_behind_is_read() {
        let requests = requests().into_iter().map(|request| request.encode());
        for packet in requests.chain(notices().into_iter().map(|notice| notice.encode())) {
            for length in 0..packet.len() {
                let short = packet.get(..length).expect("shorter");
                let request_read = matches!(Request::decode(short), Ok(Some(_)));
                let notice_read = matches!(Notice::decode(short), Ok(Some(_)));
                assert!(!request_read && !notice_read, "{packet:?} at {length}");
            }
            let longer = [packet.as_slice(), b"of a newer version"].concat();
            assert_eq!(Request::decode(&longer), Request::decode(&packet));
            assert_eq!(Notice::decode(&longer), Notice::decode(&packet));
        }
    }

    #[test]
    fn operations_of_another_version_are_none_and_counts_are_not_believed() {
        assert_eq!(Request::decode(b"\xff anything"), Ok(None));
        assert_eq!(Notice::decode(b"\xff anything"), Ok(None));
        assert_eq!(Request::decode(b""), Err(Malformed));
        // A list that claims four billion arguments.
        let claim = Writer::packet(b'S').id(Id { key: b"a", life: 1 }).u32(0).text(c"/x").u32(u32::MAX).0;
        assert_eq!(Request::decode(&claim), Err(Malformed));
        // A NUL within a path would end it early.
        assert_eq!(Request::decode(&Writer::packet(b'U').bytes(b"/a\0b\0").0), Err(Malformed));
        assert_eq!(Request::decode(&Writer::packet(b'U').bytes(b"/a").0), Err(Malformed));
    }

    proptest! {
        #[test]
        fn no_packet_makes_the_decoder_panic(packet in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Request::decode(&packet);
            let _ = Notice::decode(&packet);
        }

        #[test]
        fn no_damage_makes_the_decoder_panic(which in 0usize..24, at in any::<prop::sample::Index>(), byte: u8) {
            let mut packets: Vec<_> = requests().iter().map(Request::encode).collect();
            packets.extend(notices().iter().map(Notice::encode));
            let packet = &mut packets[which];
            let at = at.index(packet.len());
            packet[at] = byte;
            if let Ok(Some(request)) = Request::decode(packet) {
                prop_assert!(Request::decode(&request.encode()).is_ok());
            }
            let _ = Notice::decode(packet);
        }
    }
}
