//! The JSON Schema (draft 2020-12) of a manifest, from the table of fields: what editors complete,
//! show on hover and check.

use serde_json::{Map, Value, json};

use crate::model::capability;
use crate::model::yaml;

use super::envelope::API_VERSION;
use super::fields::{Field, Kind, Object, Page, Short};
use super::table::{METADATA, SERVICE};

/// Both forms: flat, and in the envelope.
pub fn schema() -> Value {
    let flat = object(&SERVICE);
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "plugd service",
        "description": "One service of plugd. With `apiVersion` the fields sit under `spec`; otherwise the spec is the file.",
        "type": "object",
        "if": {"required": ["apiVersion"]},
    });
    let envelope = json!({
        "type": "object",
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": "Service"},
            "metadata": object(&METADATA),
            "spec": {"$ref": "#/$defs/service"},
            "status": {},
        },
        "required": ["apiVersion", "spec"],
        "patternProperties": {"^x-": {}},
        "additionalProperties": false,
    });
    if let Some(root) = root.as_object_mut() {
        root.insert("then".into(), envelope);
        root.insert("else".into(), json!({"$ref": "#/$defs/service"}));
        root.insert("$defs".into(), json!({"service": flat}));
    }
    root
}

fn object(object: &'static Object) -> Value {
    let mut properties = Map::new();
    for field in object.fields {
        properties.insert(field.name.into(), described(field));
        for alias in field.aliases {
            let mut schema = kind(&field.kind);
            if let Some(schema) = schema.as_object_mut() {
                schema.insert("deprecated".into(), json!(true));
                schema.insert("description".into(), json!(format!("Older name of `{}`.", field.name)));
            }
            properties.insert((*alias).into(), schema);
        }
        if let Kind::Duration = field.kind {
            let description = format!("`{}` in seconds.", field.name);
            properties.insert(
                format!("{}Seconds", field.name),
                json!({"type": "number", "minimum": 0, "description": description}),
            );
        }
    }
    let required: Vec<&str> = object.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "patternProperties": {"^x-": {}},
        "additionalProperties": false,
    });
    if let (Some(schema), false) = (schema.as_object_mut(), required.is_empty()) {
        schema.insert("required".into(), json!(required));
    }
    match object.short {
        Short::None => schema,
        Short::Field(name) => match object.field(name) {
            Some((field, _)) => json!({"anyOf": [schema, kind(&field.kind)]}),
            None => schema,
        },
        Short::Probe => {
            json!({"anyOf": [schema, {"enum": ["tcp", "http", "notify", "mcp", "none"]}, {"type": "string", "pattern": "^/"}]})
        }
    }
}

fn described(field: &'static Field) -> Value {
    let mut schema = kind(&field.kind);
    let Some(map) = schema.as_object_mut() else { return schema };
    let mut text = field.text.to_owned();
    if field.later {
        text.push_str(" (understood and checked; acted on by a later version)");
    }
    map.insert("description".into(), json!(text));
    // A default that is a value is one; "computed" and its like are words for people.
    match yaml::to_json(field.default).filter(|_| !field.default.contains([';', '\'']) && is_value(field)) {
        Some(value) => map.insert("default".into(), value),
        None => map.insert("x-default".into(), json!(field.default)),
    };
    map.insert("examples".into(), json!([yaml::to_json(field.example)]));
    map.insert("x-page".into(), json!(if field.page == Page::First { "first" } else { "advanced" }));
    schema
}

/// Whether the default reads as a value of the field rather than as a remark.
fn is_value(field: &Field) -> bool {
    match &field.kind {
        Kind::Bool | Kind::Int(..) | Kind::Number(..) => {
            field.default.parse::<f64>().is_ok() || matches!(field.default, "true" | "false")
        }
        Kind::Duration | Kind::Size => {
            field.default.starts_with(|c: char| c.is_ascii_digit()) && !field.default.contains(' ')
        }
        Kind::Enum(words) => words.contains(&field.default),
        Kind::List(_) | Kind::Map(..) | Kind::Command => field.default.starts_with(['[', '{']),
        Kind::Object(_) => field.default.starts_with(['[', '{']) || field.name == "restart",
        Kind::Signal => true,
        Kind::Text | Kind::Word | Kind::Free | Kind::Name | Kind::Path | Kind::Cpu | Kind::Umask | Kind::Regex => {
            field.default.starts_with('/')
        }
        Kind::TimeZone => true,
        Kind::Cron
        | Kind::PortRef
        | Kind::User
        | Kind::Sha256
        | Kind::BoolOrNames
        | Kind::DurationOrBool
        | Kind::Glob
        | Kind::Capability
        | Kind::Listen => false,
    }
}

fn kind(kind_: &'static Kind) -> Value {
    match kind_ {
        Kind::Text | Kind::Word => json!({"type": ["string", "number", "boolean"]}),
        Kind::Free => json!({}),
        Kind::Capability => json!({"enum": capability::names().collect::<Vec<_>>()}),
        Kind::Path | Kind::Glob | Kind::Regex | Kind::Cron | Kind::TimeZone | Kind::Listen => json!({"type": "string"}),
        Kind::Name => {
            json!({"type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", "maxLength": 63})
        }
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Int(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Number(min, max) => json!({"type": "number", "minimum": min, "maximum": max}),
        Kind::Duration => {
            json!({"type": ["string", "integer"], "pattern": "^([0-9.]+(ms|s|m|h|d))+$|^0$", "maximum": 0})
        }
        Kind::DurationOrBool => json!({"type": ["string", "boolean"]}),
        Kind::Size => {
            json!({"type": ["string", "integer"], "pattern": "^[0-9.]+(Ki|Mi|Gi|Ti|k|M|G|T)?$", "minimum": 0})
        }
        Kind::Cpu => json!({"type": ["string", "number"]}),
        Kind::Enum(words) => json!({"enum": words}),
        Kind::Signal => json!({"type": ["string", "integer"]}),
        Kind::Umask => json!({"type": ["string", "integer"]}),
        Kind::Command => json!({"type": ["array", "string"], "items": {"type": ["string", "number", "boolean"]}}),
        Kind::PortRef => json!({"type": ["integer", "string"]}),
        Kind::User => json!({"type": ["string", "integer"]}),
        Kind::Sha256 => json!({"type": "string", "pattern": "^(sha256:)?[0-9A-Fa-f]{64}$"}),
        Kind::BoolOrNames => json!({"type": ["boolean", "array"], "items": {"type": "string"}}),
        Kind::List(inner) => json!({"type": "array", "items": kind(inner)}),
        Kind::Map(_, inner) => json!({"type": "object", "additionalProperties": kind(inner)}),
        Kind::Object(inner) => object(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::manifest::context::Context;
    use crate::model::manifest::{Text, decode, explain, table};
    use crate::model::yaml::Kind as Node_;

    #[test]
    fn the_first_page_has_sixteen_fields() {
        let first = SERVICE.fields.iter().filter(|field| field.page == Page::First);
        assert_eq!(first.count(), 16);
        let mut nested = 0;
        table::walk(&mut |path, field| nested += usize::from(path.contains('.') && field.page == Page::First));
        assert_eq!(nested, 0);
        assert_eq!(explain("").expect("the first page").matches("e.g. ").count(), 16);
    }

    #[test]
    fn every_field_is_described_and_every_example_is_taken() {
        let mut seen = 0;
        table::walk(&mut |path, field| {
            seen += 1;
            assert!(
                !field.text.is_empty() && field.text.ends_with('.') | field.text.ends_with('…'),
                "{path}: {}",
                field.text
            );
            assert!(!field.default.is_empty() && !field.example.is_empty(), "{path}");
            let text = format!("{}: {}", field.name, field.example);
            let mut ctx = Context::new(vec![Text { file: path, text: text.as_bytes() }]);
            let nodes = yaml::parse(text.as_bytes(), 0).unwrap_or_else(|fault| panic!("{path}: {fault}"));
            let Node_::Map(entries) = &nodes[0].kind else { panic!("{text} is no mapping") };
            let given = decode::value(&mut ctx, &entries[0].value, &field.kind, field.name, field, None);
            assert!(given.is_some() && !ctx.failed(), "{text}: {:?}", ctx.finish());
            assert!(explain(path).is_some_and(|told| told.contains(field.text)), "{path}");
        });
        assert!(seen > 130, "{seen}");
        assert_eq!(explain("restart.bakoff"), None);
    }

    #[test]
    fn every_field_that_the_decoder_takes_is_in_the_schema() {
        let schema = schema();
        table::walk(&mut |path, _| {
            let mut at = &schema["$defs"]["service"];
            for name in path.split('.') {
                // Down to the object: through lists, maps and the alternatives of short forms.
                while at.get("properties").is_none() {
                    at =
                        ["items", "additionalProperties"].iter().find_map(|key| at.get(key)).unwrap_or(&at["anyOf"][0]);
                }
                at = &at["properties"][name];
            }
            assert!(at["description"].is_string() && at["examples"][0] != Value::Null, "{path}: {at}");
            assert!(at.get("default").is_some() || at.get("x-default").is_some(), "{path}: {at}");
        });
        assert_eq!(schema["$defs"]["service"]["properties"]["stop"]["default"]["gracePeriod"], "30s");
    }
}
