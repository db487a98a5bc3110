//! `_defaults.yaml` under a manifest, drop-ins over it: by key, field by field.
//!
//! Mappings are merged, everything else is replaced whole. Older names and short forms are written
//! out first, so that `restart: OnFailure` and `restart: {backoff: …}` meet. Where only one of
//! several fields may be written, the one that lies over takes the place of the others.

use crate::model::yaml::{Entry, Kind as Node_, Node};

use super::decode::written_out;
use super::fields::{Kind, Object};

/// What `over` says where both speak.
pub fn merge(under: Node, over: Node, object: &'static Object) -> Node {
    let under = written_out(&under, object).unwrap_or(under);
    let over = written_out(&over, object).unwrap_or(over);
    let (Node_::Map(_), Node_::Map(over_entries)) = (&under.kind, &over.kind) else {
        return over;
    };
    let names =
        |entry: &Entry| object.field(&entry.key).map_or_else(|| entry.key.clone(), |(field, _)| field.name.to_owned());
    let over_names: Vec<String> = over_entries.iter().map(names).collect();
    let displaced = |name: &str| {
        let rivals = object.exclusive.iter().filter(|group| group.contains(&name));
        rivals.flat_map(|group| group.iter()).any(|rival| *rival != name && over_names.iter().any(|over| over == rival))
    };
    let place = over.place.clone();
    let (Node_::Map(under_entries), Node_::Map(over_entries)) = (under.kind, over.kind) else {
        unreachable!("both were mappings three lines above");
    };
    let mut merged: Vec<Entry> = Vec::with_capacity(under_entries.len() + over_entries.len());
    let mut kept: Vec<Option<Entry>> = Vec::new();
    for entry in under_entries {
        kept.push((!displaced(&names(&entry))).then_some(entry));
    }
    for (entry, name) in over_entries.into_iter().zip(&over_names) {
        let below = kept
            .iter_mut()
            .find(|slot| slot.as_ref().is_some_and(|below| names(below) == *name))
            .and_then(Option::take);
        merged.push(match (below, object.field(&entry.key)) {
            (Some(below), Some((field, seconds))) if !seconds => {
                let value = merge_value(below.value, entry.value, &field.kind);
                Entry { value, ..entry }
            }
            _ => entry,
        });
    }
    // What only the lower one says comes first, as if it had been written above.
    let mut all: Vec<Entry> = kept.into_iter().flatten().collect();
    all.extend(merged);
    Node { place, kind: Node_::Map(all) }
}

fn merge_value(under: Node, over: Node, kind: &'static Kind) -> Node {
    match kind {
        Kind::Object(object) => merge(under, over, object),
        Kind::Map(_, _) => match (under.kind, over.kind) {
            (Node_::Map(under), Node_::Map(over_entries)) => {
                let mut all: Vec<Entry> = under;
                all.retain(|below| !over_entries.iter().any(|above| above.key == below.key));
                all.extend(over_entries);
                Node { place: over.place, kind: Node_::Map(all) }
            }
            (_, kind) => Node { place: over.place, kind },
        },
        _ => over,
    }
}
