//! Who listens on a TCP port, and whether somebody is connected to it, from the kernel: sock_diag(7), with
//! /proc/net/tcp where that is refused.
//!
//! The kernel filters by port and by state, so an answer is a few lines whatever the machine does.
//! Requests and answers are built and read by hand, byte by byte: two fixed structs.

use std::cell::Cell;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::sockets::{Listener, Taker};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// NLM_F_REQUEST | NLM_F_DUMP.
const REQUEST_DUMP: u16 = 0x301;
/// NLM_F_REQUEST: of one socket, found as the kernel finds the listener for a packet.
const REQUEST_ONE: u16 = 0x1;
const TCP_LISTEN: u32 = 1 << 10;
/// Established, or closed by one of its two ends (FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT).
const TCP_CONNECTED: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8;
/// The same as /proc writes them.
const CONNECTED: [&str; 4] = ["01", "04", "05", "08"];
/// nlmsghdr, then inet_diag_req_v2.
const REQUEST_LEN: usize = 16 + 56;
/// inet_diag_msg, without the header.
const MESSAGE_LEN: usize = 72;
/// The kernel cuts a dump into packets no larger than what is read at once, from NLMSG_GOODSIZE up.
const PACKET_MAX: usize = 8 * 1024;
/// Listeners of one port that are looked at; SO_REUSEPORT allows any number.
const LISTENERS_MAX: usize = 256;
/// Of the /proc tables, which cannot be filtered, this much is read: some 400,000 connections.
const TABLE_MAX: u64 = 64 * 1024 * 1024;

/// A question could not be answered this way.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiagError {
    #[error("sock_diag is refused: {0}")]
    Refused(std::io::Error),
    #[error("sock_diag answered something else")]
    Garbled,
}

impl From<rustix::io::Errno> for DiagError {
    fn from(errno: rustix::io::Errno) -> DiagError {
        DiagError::Refused(errno.into())
    }
}

/// A socket to ask on.
pub(super) fn open() -> Result<OwnedFd, DiagError> {
    Ok(rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(SOCK_DIAG))?)
}

/// Everyone who listens on `port`, IPv4 first. The kernel answers within the calls: nothing waits.
pub(super) fn listeners(socket: &OwnedFd, port: u16, sequence: u32) -> Result<Vec<Listener>, DiagError> {
    let mut found = Vec::new();
    for (family, sequence) in [(libc::AF_INET, sequence), (libc::AF_INET6, sequence.wrapping_add(1))] {
        let asked = request(family as u8, TCP_LISTEN, port, sequence);
        let note = |message: &[u8]| found.extend(listener(message, port).filter(|_| found.len() < LISTENERS_MAX));
        ask(socket, &asked, sequence, note, || false)?;
    }
    Ok(found)
}

/// Sends a question and reads packets until the answer is complete, or `enough` says so after one.
fn ask(
    socket: &OwnedFd,
    request: &[u8],
    sequence: u32,
    mut note: impl FnMut(&[u8]),
    enough: impl Fn() -> bool,
) -> Result<(), DiagError> {
    rustix::net::sendto(socket.as_fd(), request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut packet = [0; PACKET_MAX];
    loop {
        let (length, _) = rustix::net::recv(socket.as_fd(), &mut packet[..], RecvFlags::DONTWAIT)?;
        if read(&packet[..length], sequence, &mut note)? || enough() {
            return Ok(());
        }
    }
}

/// The socket that takes a connection to `addr` now; none where nobody does. Its cost does not depend on how many
/// sockets there are.
pub(super) fn listener_at(socket: &OwnedFd, addr: SocketAddr, sequence: u32) -> Result<Option<Taker>, DiagError> {
    let (family, octets) = match addr {
        SocketAddr::V4(addr) => (libc::AF_INET, addr.ip().octets().to_vec()),
        SocketAddr::V6(addr) => (libc::AF_INET6, addr.ip().octets().to_vec()),
    };
    let mut request = request(family as u8, TCP_LISTEN, addr.port(), sequence);
    request[6..8].copy_from_slice(&REQUEST_ONE.to_ne_bytes());
    // A caller's port, another one each time: by it the kernel chooses among those that share an address.
    request[26..28].copy_from_slice(&(sequence as u16 | 1).to_be_bytes());
    request[28..28 + octets.len()].copy_from_slice(&octets);
    if let SocketAddr::V6(addr) = addr {
        request[60..64].copy_from_slice(&addr.scope_id().to_ne_bytes());
    }
    // INET_DIAG_NOCOOKIE.
    request[64..72].fill(0xff);
    let mut found = None;
    let note = |message: &[u8]| found = found.or(taker(message, addr.port()));
    // One packet, after which the kernel says nothing more.
    match ask(socket, &request, sequence, note, || true) {
        Err(DiagError::Refused(error)) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(found),
    }
}

/// Whether a process has a connection that came to `port`, and not from one of `own`, which are ports of plugd's
/// checks. (One that nobody has accepted yet is nobody's.)
pub(super) fn connected(port: u16, own: &HashSet<u16>) -> Result<bool, DiagError> {
    // A socket of its own: the rest of a long answer goes with it.
    let socket = open()?;
    let found = Cell::new(false);
    for (family, sequence) in [(libc::AF_INET6, 1), (libc::AF_INET, 2)] {
        let asked = request(family as u8, TCP_CONNECTED, port, sequence);
        let note = |message: &[u8]| {
            let accepted = listener(message, port).is_some_and(|one| one.inode != 0);
            if accepted && !own.contains(&u16::from_be_bytes([message[6], message[7]])) {
                found.set(true);
            }
        };
        ask(&socket, &asked, sequence, note, || found.get())?;
        if found.get() {
            break;
        }
    }
    Ok(found.get())
}

fn request(family: u8, states: u32, port: u16, sequence: u32) -> [u8; REQUEST_LEN] {
    let mut bytes = [0; REQUEST_LEN];
    bytes[0..4].copy_from_slice(&(REQUEST_LEN as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&REQUEST_DUMP.to_ne_bytes());
    bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    bytes[16] = family;
    bytes[17] = libc::IPPROTO_TCP as u8;
    bytes[20..24].copy_from_slice(&states.to_ne_bytes());
    bytes[24..26].copy_from_slice(&port.to_be_bytes());
    bytes
}

/// One packet; true when the answer is complete.
fn read(mut packet: &[u8], sequence: u32, mut note: impl FnMut(&[u8])) -> Result<bool, DiagError> {
    while packet.len() >= 16 {
        let length = u32_at(packet, 0) as usize;
        if length < 16 || length > packet.len() {
            return Err(DiagError::Garbled);
        }
        let message = &packet[16..length];
        // What is left of an earlier question that was given up.
        if u32_at(packet, 8) == sequence {
            match u16::from_ne_bytes([packet[4], packet[5]]) {
                NLMSG_DONE => return Ok(true),
                NLMSG_ERROR => {
                    let code = if message.len() < 4 { 0 } else { u32_at(message, 0) as i32 };
                    return Err(DiagError::Refused(std::io::Error::from_raw_os_error(code.saturating_neg())));
                }
                SOCK_DIAG_BY_FAMILY => note(message),
                _ => {}
            }
        }
        packet = packet.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Of a connection: its own end.
fn listener(message: &[u8], port: u16) -> Option<Listener> {
    let fits = message.len() >= MESSAGE_LEN && message[4..6] == port.to_be_bytes();
    if !fits {
        return None;
    }
    let addr = match i32::from(message[0]) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(&message[8..12]).ok()?)),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&message[8..24]).ok()?)),
        _ => return None,
    };
    let scope = u32_at(message, 40);
    Some(Listener { inode: u64::from(u32_at(message, 68)), addr, scope, uid: u32_at(message, 64) })
}

/// Of one that listens the kernel tells how many wait to be accepted.
fn taker(message: &[u8], port: u16) -> Option<Taker> {
    let inode = listener(message, port)?.inode;
    Some(Taker { inode, waiting: u32_at(message, 56) })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The same from /proc/net/tcp and tcp6, where netlink is refused (gVisor, some seccomp profiles).
pub(super) fn from_proc(port: u16) -> Vec<Listener> {
    lines_of_proc().filter_map(|line| proc_line(&line, &["0A"], port)).take(LISTENERS_MAX).collect()
}

/// As [`connected`].
pub(super) fn connected_in_proc(port: u16, own: &HashSet<u16>) -> bool {
    let peer = |line: &str| {
        let remote = line.split_ascii_whitespace().nth(2)?;
        u16::from_str_radix(remote.split_once(':')?.1, 16).ok()
    };
    lines_of_proc().any(|line| {
        let accepted = proc_line(&line, &CONNECTED, port).is_some_and(|one| one.inode != 0);
        accepted && peer(&line).is_none_or(|peer| !own.contains(&peer))
    })
}

fn lines_of_proc() -> impl Iterator<Item = String> {
    use std::io::{BufRead, BufReader, Read};
    let tables =
        ["/proc/self/net/tcp", "/proc/self/net/tcp6"].into_iter().filter_map(|path| std::fs::File::open(path).ok());
    tables.flat_map(|file| BufReader::new(file.take(TABLE_MAX)).lines().map_while(Result::ok))
}

/// The ports on which any of these sockets listens, by the same tables.
pub(super) fn ports_of(inodes: &[u64]) -> Vec<u16> {
    let ports = lines_of_proc().filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
        let [_, local, _, "0A", _, _, _, _, _, inode] = fields[..] else { return None };
        let port = u16::from_str_radix(local.split_once(':')?.1, 16).ok()?;
        inodes.contains(&inode.parse().ok()?).then_some(port)
    });
    let mut ports: Vec<u16> = ports.take(LISTENERS_MAX).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// `sl local rem st tx:rx tr:when retrnsmt uid timeout inode …`, proc_net_tcp of the kernel's docs.
fn proc_line(line: &str, states: &[&str], port: u16) -> Option<Listener> {
    let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
    let [_, local, _, state, _, _, _, uid, _, inode] = fields[..] else { return None };
    let (addr, local_port) = local.split_once(':')?;
    if !states.contains(&state) || u16::from_str_radix(local_port, 16).ok()? != port {
        return None;
    }
    // Each 32 bits of the address are printed as a number of this machine's byte order.
    let words: Option<Vec<u8>> = (0..addr.len() / 8)
        .map(|at| Some(u32::from_str_radix(addr.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes()))
        .try_fold(Vec::new(), |mut bytes, word| {
            bytes.extend(word?);
            Some(bytes)
        });
    let words = words?;
    let addr = match words.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(&words[..]).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&words[..]).ok()?)),
        _ => return None,
    };
    Some(Listener { inode: inode.parse().ok()?, addr, scope: 0, uid: uid.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_and_its_table_name_the_same_listener() {
        let listening = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listening.local_addr().expect("bound").port();
        let from_proc = from_proc(port);
        assert_eq!(from_proc.len(), 1);
        assert_eq!(from_proc[0].addr, IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(from_proc[0].inode > 0);
        let asked = open().and_then(|socket| listeners(&socket, port, 7)).expect("sock_diag works here");
        assert_eq!(asked, from_proc);
    }

    #[test]
    fn a_connection_counts_from_when_it_is_accepted_until_both_ends_are_closed() {
        let listening = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listening.local_addr().expect("bound").port();
        let both =
            |own: &HashSet<u16>| (connected(port, own).expect("sock_diag works here"), connected_in_proc(port, own));
        let nobody = HashSet::new();
        assert_eq!(both(&nobody), (false, false));
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connected");
        assert_eq!(both(&nobody), (false, false), "it waits to be accepted");
        let (server, _) = listening.accept().expect("accepted");
        assert_eq!(both(&nobody), (true, true));
        let check = HashSet::from([client.local_addr().expect("connected").port()]);
        assert_eq!(both(&check), (false, false), "plugd's own does not count");
        client.shutdown(std::net::Shutdown::Write).expect("closed");
        assert_eq!(both(&nobody), (true, true), "half of it is open");
        drop(server);
        drop(client);
        assert_eq!(both(&nobody), (false, false));
    }

    #[test]
    fn lines_of_the_table_are_read_in_both_families() {
        let v4 = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1";
        let one = proc_line(v4, &["0A"], 8080).expect("listens on 8080");
        assert_eq!((one.inode, one.uid), (4242, 1000));
        assert_eq!(proc_line(v4, &["0A"], 8081), None);
        assert_eq!(proc_line(&v4.replace(" 0A ", " 01 "), &["0A"], 8080), None);
        let v6 = "0: 00000000000000000000000001000000:1F90 0:0 0A 0:0 0:0 0 0 0 7 1";
        let expected = if cfg!(target_endian = "little") { Some("::1".parse().expect("an address")) } else { None };
        assert_eq!(proc_line(v6, &["0A"], 8080).map(|one| one.addr).filter(|_| expected.is_some()), expected);
        assert_eq!(proc_line("garbage", &["0A"], 8080), None);
    }

    #[test]
    fn no_packet_makes_the_reader_fall() {
        let mut seed = 7u64;
        let mut byte = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        };
        for length in 0..2000 {
            let mut packet: Vec<u8> = (0..length % 200).map(|_| byte()).collect();
            if packet.len() >= 16 && length % 2 == 0 {
                let whole = packet.len() as u32;
                packet[0..4].copy_from_slice(&whole.to_ne_bytes());
                packet[4..6].copy_from_slice(&[2u16, 3, 20][length % 3].to_ne_bytes());
                packet[8..12].copy_from_slice(&9u32.to_ne_bytes());
            }
            let mut found = Vec::new();
            let _ = read(&packet, 9, |message| found.extend(listener(message, 80)));
        }
    }
}
