//! `/v1/openapi.json`, printed from the table of routes.

use serde_json::{Map, Value, json};

use super::routes::ROUTES;

pub(super) async fn openapi() -> axum::Json<Value> {
    axum::Json(document())
}

fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let mut operation = json!({
            "summary": route.summary,
            "x-role": format!("{:?}", route.role).to_lowercase(),
            "responses": {
                "2XX": { "description": "done, or taken up", "content": { media(route.path): {} } },
                "default": {
                    "description": "no, and what to do next",
                    "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
                },
            },
        });
        let parameters = parameters(route.path);
        if !parameters.is_empty() {
            operation["parameters"] = Value::Array(parameters);
        }
        if let Some(schema) = body(route.method, route.path) {
            operation["requestBody"] =
                json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        }
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        methods[route.method.to_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "plugd", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": { "Problem": object(&[
            ("error", "string", true), ("status", "integer", true), ("message", "string", true), ("next", "string", true),
        ]) } },
    })
}

fn media(path: &str) -> &'static str {
    match path {
        "/v1/watch" | "/v1/events" => "text/event-stream",
        "/livez" | "/readyz" | "/v1/services/{name}/logs" => "text/plain",
        _ => "application/json",
    }
}

fn parameters(path: &str) -> Vec<Value> {
    let mut parameters = Vec::new();
    if path.contains("{name}") {
        parameters.push(json!({ "name": "name", "in": "path", "required": true, "schema": { "type": "string" } }));
    }
    let query: &[(&str, &str)] = match path {
        "/v1/services" | "/v1/services/{name}" | "/v1/node" => &[("form", "string")],
        "/v1/events" => &[("follow", "boolean")],
        "/v1/services/{name}/history" => &[("since", "string")],
        "/v1/services/{name}/tail" => &[("lines", "integer"), ("instance", "integer")],
        "/v1/services/{name}/logs" => &[
            ("tail", "integer"),
            ("since", "string"),
            ("previous", "boolean"),
            ("follow", "boolean"),
            ("instance", "integer"),
            ("times", "boolean"),
        ],
        _ => &[],
    };
    parameters
        .extend(query.iter().map(|(name, kind)| json!({ "name": name, "in": "query", "schema": { "type": kind } })));
    parameters
}

fn body(method: &str, path: &str) -> Option<Value> {
    match (method, path) {
        ("POST", "/v1/services") => {
            Some(object(&[("name", "string", true), ("manifest", "string", true), ("replace", "boolean", false)]))
        }
        ("POST", "/v1/services/{name}/scale") => Some(object(&[("replicas", "integer", true)])),
        ("POST", "/v1/services/{name}/signal") => {
            Some(object(&[("signal", "string", true), ("instance", "integer", false)]))
        }
        _ => None,
    }
}

fn object(fields: &[(&str, &str, bool)]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|(name, kind, _)| {
            let schema = match *kind {
                "array" => json!({ "type": "array", "items": { "type": "string" } }),
                kind => json!({ "type": kind }),
            };
            (name.to_string(), schema)
        })
        .collect();
    let required: Vec<&str> = fields.iter().filter(|(_, _, required)| *required).map(|(name, _, _)| *name).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}
