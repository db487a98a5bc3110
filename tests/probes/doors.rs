//! Who is led to what listens on the port of an instance.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use plugd::controller::{Block, Demand, Input};
use plugd::edge::doors::{Doors, Ready, Way};
use plugd::edge::probe::Sockets;
use plugd::model::name::Name;
use tokio::sync::mpsc;

use super::{Service, TIMEOUT, listener, until_closed};

async fn until(told: &mut mpsc::Receiver<Input>, holds: impl Fn(Demand) -> bool) {
    let heard = async {
        while let Some(Input::Demand { demand, .. }) = told.recv().await {
            if holds(demand) {
                return;
            }
        }
    };
    tokio::time::timeout(TIMEOUT, heard).await.expect("it is told");
}

/// Listens as the service does, and takes whoever comes.
fn served(port: u16) -> (Service, TcpListener) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("free");
    (Service::holding(Some(listener.try_clone().expect("a second descriptor"))), listener)
}

#[tokio::test]
async fn nobody_is_passed_on_to_who_has_taken_the_port_of_an_instance() {
    let (out, mut told) = mpsc::channel(64);
    let doors = Doors::start(out, Arc::new(Sockets::new())).expect("a thread");
    let name = Name::parse("web").expect("valid");
    let (door, at) = listener("127.0.0.1:0");
    doors.open(&name, OwnedFd::from(door), TIMEOUT, Way::Proxy);
    let (own, port) = {
        let (gone, port) = listener("127.0.0.1:0");
        super::close(gone);
        (served(port), port)
    };
    doors.lead(&name, vec![Ready { port, life: Some(own.0.context(vec![])) }]);
    let call = || TcpStream::connect((Ipv4Addr::LOCALHOST, at)).expect("connected");
    let first = call();
    drop(own.1.accept().expect("its own takes the caller"));
    drop(first);
    until(&mut told, |demand| demand == Demand::default()).await;

    // Its server is gone, and somebody else listens there.
    drop(own);
    until_closed(port);
    let (stranger, taken) = served(port);
    taken.set_nonblocking(true).expect("a flag");
    let mut second = call();
    second.write_all(b"secret").expect("sent");
    until(&mut told, |demand| demand.waiting && demand.block == Some(Block::Taken)).await;
    assert_eq!(taken.accept().expect_err("nobody came").kind(), ErrorKind::WouldBlock);

    // One that listens itself lets in who waited.
    doors.lead(&name, vec![Ready { port, life: Some(stranger.context(vec![])) }]);
    until(&mut told, |demand| demand.connected && !demand.waiting && demand.block.is_none()).await;
    assert!(taken.accept().is_ok());
}
