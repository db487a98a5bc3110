//! The text of `_plugd.yaml`, and single settings from variables and flags, by the same table.

use crate::model::yaml::{self, Kind as Node_};

use super::context::Context;
use super::fields::Kind;
use super::given::{Data, Given};
use super::table::SETTINGS;
use super::{Diagnostic, Text, decode};

/// Settings as they were given, before they have types of their own.
#[derive(Debug)]
pub struct Values(Given);

impl Values {
    pub fn get(&self, name: &str) -> Option<&Given> {
        self.0.get(name)
    }

    /// Settings that are valid and whose machinery is not built yet.
    pub fn later(&self) -> Vec<String> {
        SETTINGS
            .fields
            .iter()
            .filter(|field| field.later && self.get(field.name).is_some())
            .map(|field| field.name.to_owned())
            .collect()
    }
}

/// All settings of a file; an empty one sets nothing.
pub fn read(text: Text<'_>) -> Result<Values, Vec<Diagnostic>> {
    let mut ctx = Context::new(vec![text]);
    let nothing = || Values(Given { place: yaml::Place::default(), data: Data::Map(Vec::new()) });
    let given = match yaml::parse(text.text, 0) {
        Ok(nodes) => match nodes.as_slice() {
            [] => return Ok(nothing()),
            [node] if node.kind == Node_::Null => return Ok(nothing()),
            [node] => decode::object(&mut ctx, node, &SETTINGS, ""),
            [_, second, ..] => {
                ctx.error(&second.place, "several documents in the settings", "write one mapping");
                None
            }
        },
        Err(fault) => {
            ctx.fault(fault);
            None
        }
    };
    match given {
        Some(given) if !ctx.failed() => Ok(Values(given)),
        Some(_) | None => Err(ctx.finish()),
    }
}

/// One setting as a variable or a flag gives it; lists are separated by colons, as in PATH.
pub fn value(name: &str, text: &str) -> Result<Values, String> {
    let Some((field, _)) = SETTINGS.field(name) else {
        let near = super::nearest(name, super::setting_names());
        return Err(near.map_or_else(
            || format!("unknown setting `{name}`"),
            |near| format!("unknown setting `{name}`; did you mean `{near}`?"),
        ));
    };
    let given = |data| Given { place: yaml::Place::default(), data };
    let data = match &field.kind {
        Kind::List(inner) => {
            let items = text.split(':').filter(|item| !item.is_empty());
            Data::List(items.map(|item| decode::scalar(inner, item, true).map(given)).collect::<Result<_, _>>()?)
        }
        kind => decode::scalar(kind, text, true)?,
    };
    Ok(Values(given(Data::Map(vec![(field.name.to_owned(), given(data))]))))
}
