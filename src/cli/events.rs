//! `plugd events`: what the controller remembers, and with `-w` what happens from now on.

use std::io::Write as _;

use super::args::{EventsArgs, LogsOutput};
use super::fault::{Code, Fault};
use super::look::{Color, Look, columns, wrap};
use super::status::moment;
use super::{Session, select};
use crate::api::wire::EventsEvent;
use crate::model::text::{clean, since};
use crate::model::view::{Event, Snapshot};

pub fn events(args: &EventsArgs, session: &Session) -> Result<Code, Fault> {
    let node = session.node()?;
    let snapshot = node.snapshot()?;
    let mut happening = node.events()?;
    let mut out = session.out();
    let mut told = None;
    while let Some(frame) = happening.frame()? {
        let events = match frame {
            EventsEvent::History(events) => events,
            EventsEvent::Happened(event) => vec![event],
        };
        if told.is_none() {
            known(args, &snapshot, &events)?;
        }
        for event in events.iter().filter(|event| is_wanted(event, args, session)) {
            // After a lag the history comes again: what was told is not told twice.
            if told.is_some_and(|last| event.at < last) {
                continue;
            }
            told = Some(event.at);
            match args.output {
                LogsOutput::Text => write!(out, "{}", line(event, &snapshot, &session.look))?,
                LogsOutput::Json => writeln!(out, "{}", serde_json::to_string(event).unwrap_or_default())?,
            }
        }
        out.flush()?;
        if !args.watch {
            break;
        }
    }
    Ok(Code::Done)
}

/// A name that no service has and no event knows is a mistake; of one that is gone there is history.
fn known(args: &EventsArgs, snapshot: &Snapshot, events: &[Event]) -> Result<(), Fault> {
    let remembered = |name: &String| events.iter().any(|event| event.service.as_ref() == Some(name));
    let strange = |name: &&String| name.as_str() != "plugd" && !remembered(name);
    for name in args.names.iter().filter(strange) {
        // With -w one may wait for a service that is still to come.
        if !args.watch {
            select::find(snapshot, name)?;
        }
    }
    Ok(())
}

fn is_wanted(event: &Event, args: &EventsArgs, session: &Session) -> bool {
    let named = args.names.is_empty() || event.service.as_ref().is_some_and(|service| args.names.contains(service));
    named && args.since.is_none_or(|limit| since(event.at, session.now()) <= limit)
}

/// `2026-11-23T12:30:02Z  mailer/0  BackOff  exits with 1; …`
fn line(event: &Event, snapshot: &Snapshot, look: &Look) -> String {
    let service = event.service.as_deref();
    // The only instance of a service has the service's name, as everywhere.
    let is_only = service.and_then(|name| snapshot.services.get(name)).is_none_or(|view| view.desired <= 1);
    let instance = event.instance.as_deref().filter(|name| !is_only || !name.ends_with("/0"));
    let who = instance.or(service).unwrap_or("plugd");
    let color = if event.warning { Color::Yellow } else { Color::Dim };
    let reason = look.paint(color, event.reason.as_str());
    let mark = if event.warning { "! " } else { "" };
    let (who, message) = (clean(who), clean(&event.message));
    let head = |reason: &str| format!("{}  {who}  {mark}{reason}", moment(event.at));
    // On a terminal what does not fit stands beneath, as of the tables.
    let room = look.width.unwrap_or(usize::MAX);
    let message = match columns(&head(event.reason.as_str())) + 2 + columns(&message) <= room {
        true => format!("  {message}"),
        false => wrap(&message, room.saturating_sub(2)).iter().map(|line| format!("\n  {line}")).collect(),
    };
    format!("{}{message}\n", head(&reason))
}
