//! A value as a manifest gives it, after the decoder: of the right kind, with its place.

use std::time::Duration;

use serde_json::{Map, Number, Value};

use crate::model::duration;
use crate::model::yaml::Place;

#[derive(Debug, Clone)]
pub struct Given {
    pub place: Place,
    pub data: Data,
}

#[derive(Debug, Clone)]
pub enum Data {
    Text(String),
    Bool(bool),
    Int(i64),
    Number(f64),
    Duration(Duration),
    List(Vec<Given>),
    /// Keys are the canonical names of fields, or names of the writer's own.
    Map(Vec<(String, Given)>),
}

impl Given {
    pub fn get(&self, name: &str) -> Option<&Given> {
        match &self.data {
            Data::Map(entries) => entries.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            Data::Text(_) | Data::Bool(_) | Data::Int(_) | Data::Number(_) | Data::Duration(_) | Data::List(_) => None,
        }
    }

    /// The value at a path of names: `["backoff", "initial"]`.
    pub fn at(&self, path: &[&str]) -> Option<&Given> {
        path.iter().try_fold(self, |value, name| value.get(name))
    }

    pub fn entries(&self) -> &[(String, Given)] {
        if let Data::Map(entries) = &self.data { entries } else { &[] }
    }

    pub fn items(&self) -> &[Given] {
        if let Data::List(items) = &self.data { items } else { &[] }
    }

    pub fn as_text(&self) -> Option<&str> {
        if let Data::Text(text) = &self.data { Some(text) } else { None }
    }

    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name)?.as_text().map(str::to_owned)
    }

    pub fn as_int(&self) -> Option<i64> {
        if let Data::Int(int) = self.data { Some(int) } else { None }
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name)?.as_int()
    }

    /// A count, which the table bounds to 32 bits.
    pub fn count(&self, name: &str) -> Option<u32> {
        u32::try_from(self.int(name)?).ok()
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        if let Data::Number(number) = self.get(name)?.data { Some(number) } else { None }
    }

    pub fn as_flag(&self) -> Option<bool> {
        if let Data::Bool(flag) = self.data { Some(flag) } else { None }
    }

    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name)?.as_flag()
    }

    pub fn as_duration(&self) -> Option<Duration> {
        if let Data::Duration(duration) = self.data { Some(duration) } else { None }
    }

    pub fn duration(&self, name: &str) -> Option<Duration> {
        self.get(name)?.as_duration()
    }

    pub fn texts(&self) -> Vec<String> {
        self.items().iter().filter_map(|item| item.as_text().map(str::to_owned)).collect()
    }

    /// Canonical: durations and enums in one spelling, so that equal meanings are equal values.
    pub fn to_json(&self) -> Value {
        match &self.data {
            Data::Text(text) => Value::String(text.clone()),
            Data::Bool(flag) => Value::Bool(*flag),
            Data::Int(int) => Value::Number((*int).into()),
            Data::Number(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
            Data::Duration(value) => Value::String(duration::show(*value)),
            Data::List(items) => Value::Array(items.iter().map(Given::to_json).collect()),
            Data::Map(entries) => {
                Value::Object(entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect::<Map<_, _>>())
            }
        }
    }
}
