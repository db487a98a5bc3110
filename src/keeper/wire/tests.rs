//! Every message there and back, and every way in which one may be broken.

use super::field::{Field, Malformed};
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
        entrances: Added(2),
        capabilities: Added(Some(Capabilities { bounding: 1 << 40, kept: u64::MAX, ambient: 7 })),
    };
    vec![
        Request::Hello { protocol: PROTOCOL },
        Request::Ready { state: 7 },
        Request::Spawn { spawn: Box::new(spawn) },
        Request::SpawnLarge { id },
        Request::SetBlob { id, blob: b"blob" },
        Request::Forget { id },
        Request::Abandon { id },
        Request::List,
        Request::Deposit { key: b"listener" },
        Request::Withdraw { key: b"" },
        Request::Leave { code: -1 },
        Request::Upgrade { path: c"/usr/bin/plugd" },
        Request::Reexec { path: c"/proc/self/exe" },
        Request::Pong,
    ]
}

fn notices() -> Vec<Notice<'static>> {
    let id = Id { key: b"orders/0", life: u64::MAX };
    let exit = Exit { how: How::Signal(9), at: u64::MAX };
    let welcome = Welcome {
        protocol: PROTOCOL,
        keeper_pid: 1,
        controllers_started: 2,
        last_end: Some(How::Code(78)),
        stop_heard: Some(15),
        taken_back: true,
    };
    let reaper = Added(Some(Reaper { pid: 8, start_time: 9 }));
    let entry = Entry { id, pid: 5, start_time: 6, spawned_at: 7, exit: Some(exit), blob: b"blob", reaper };
    vec![
        Notice::Welcome { welcome },
        Notice::Entry { entry: Entry { exit: None, ..entry.clone() } },
        Notice::Entry { entry },
        Notice::Listed,
        Notice::Spawned { id, pid: 5, start_time: 6, reaper },
        Notice::SpawnFailed { id, fault: Fault { stage: Stage::WorkingDir, errno: 2 } },
        Notice::Exited { id, exit },
        Notice::Deposited { key: b"listener" },
        Notice::Signal { signal: 15 },
        Notice::Reexecuted { errno: 0 },
        Notice::Ping,
    ]
}

#[test]
fn every_message_is_read_as_it_was_written() {
    for request in requests() {
        assert_eq!(Request::decode(&request.encode()), Ok(request.clone()));
    }
    for notice in notices() {
        assert_eq!(Notice::decode(&notice.encode()), Ok(notice.clone()));
    }
}

#[test]
fn a_message_cut_short_is_malformed_and_one_with_more_behind_is_read() {
    let requests = requests().into_iter().map(|request| request.encode());
    for packet in requests.chain(notices().into_iter().map(|notice| notice.encode())) {
        // An older version has not the fields that were added: what it sends is this much shorter.
        let added: &[usize] = match packet.first() {
            Some(b'S') => &[25, 29],
            Some(b's' | b'l') => &[13],
            _ => &[],
        };
        for length in 0..packet.len() {
            let short = packet.get(..length).expect("shorter");
            let read = Request::decode(short).is_ok() || Notice::decode(short).is_ok();
            assert_eq!(read, added.contains(&(packet.len() - length)), "{packet:?} at {length}");
        }
        let longer = [packet.as_slice(), b"of a newer version"].concat();
        assert_eq!(Request::decode(&longer), Request::decode(&packet));
        assert_eq!(Notice::decode(&longer), Notice::decode(&packet));
    }
}

#[test]
fn operations_of_another_version_are_told_apart_and_counts_are_not_believed() {
    assert_eq!(Request::decode(b"\xff anything"), Err(Malformed::Unknown));
    assert_eq!(Notice::decode(b"\xff anything"), Err(Malformed::Unknown));
    assert_eq!(Request::decode(b""), Err(Malformed::Packet));
    // A list that claims four billion arguments.
    let mut claim = vec![b'S'];
    (Id { key: b"a", life: 1 }, 0u32, c"/x").write(&mut claim);
    u32::MAX.write(&mut claim);
    assert_eq!(Request::decode(&claim), Err(Malformed::Packet));
    // A NUL within a path would end it early.
    let path = |bytes: &[u8]| (b'U', bytes).encode();
    assert_eq!(Request::decode(&path(b"/a\0b\0")), Err(Malformed::Packet));
    assert_eq!(Request::decode(&path(b"/a")), Err(Malformed::Packet));
}

proptest! {
    #[test]
    fn no_packet_makes_the_decoder_panic(packet in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Request::decode(&packet);
        let _ = Notice::decode(&packet);
    }

    #[test]
    fn no_damage_makes_the_decoder_panic(which in 0usize..24, at in any::<prop::sample::Index>(), byte: u8) {
        let mut packets: Vec<_> = requests().iter().map(Field::encode).collect();
        packets.extend(notices().iter().map(Field::encode));
        let packet = &mut packets[which];
        let at = at.index(packet.len());
        packet[at] = byte;
        if let Ok(request) = Request::decode(packet) {
            prop_assert!(Request::decode(&request.encode()).is_ok());
        }
        let _ = Notice::decode(packet);
    }
}
