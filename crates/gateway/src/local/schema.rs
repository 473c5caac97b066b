//! A requester's JSON Schema as the grammar takes it (`chat.md` §3.1): compact, closed, and without what cannot be followed.

use serde_json::{Map, Value, json};

/// Members beside which `properties` is not all that an object may have, or which say so themselves.
const OPEN: [&str; 11] = [
    "additionalProperties",
    "unevaluatedProperties",
    "patternProperties",
    "propertyNames",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "$ref",
    "$dynamicRef",
];
/// Members whose schemas hold beside others: what is closed there would refuse what stands elsewhere.
const BESIDE: [&str; 6] = ["allOf", "not", "if", "then", "else", "dependentSchemas"];
/// Members of which each may say all of a schema: beside another one, `anyOf` and `oneOf` do not.
const WHOLE: [&str; 5] = ["properties", "$ref", "allOf", "anyOf", "oneOf"];
/// Members that are values, not schemas.
const VALUES: [&str; 4] = ["enum", "const", "default", "examples"];

/// `schema` for an answer. Unless it is `strict`, keywords that no grammar can follow are passed over.
pub fn shaped(schema: &Value, strict: bool) -> Value {
    let mut schema = schema.clone();
    close(&mut schema);
    if let Value::Object(members) = &mut schema {
        // A weak model loses itself in white space where it may choose it.
        let form = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": ", "lenient": !strict});
        members.insert("x-guidance".to_owned(), form);
    }
    schema
}

/// The schema of a function's arguments, which are an object; of none where it has no schema.
pub fn arguments(schema: Option<&Value>, strict: bool) -> Value {
    let none = json!({"type": "object", "properties": {}});
    let mut schema = schema.filter(|schema| **schema != json!({})).cloned().unwrap_or(none);
    if let Value::Object(members) = &mut schema
        && !["type", "allOf", "anyOf", "oneOf", "$ref", "enum", "const"]
            .iter()
            .any(|name| members.contains_key(*name))
    {
        members.insert("type".to_owned(), "object".into());
    }
    shaped(&schema, strict)
}

/// Lets objects that name their members have no others, where the schema does not say either.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            let several = WHOLE.iter().filter(|name| members.contains_key(**name)).count() > 1;
            for (name, inner) in members.iter_mut() {
                match name.as_str() {
                    name if VALUES.contains(&name) || BESIDE.contains(&name) => {}
                    "anyOf" | "oneOf" if several => {}
                    // Names of members, not keywords.
                    "properties" | "$defs" | "definitions" => {
                        inner.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(close);
                    }
                    _ => close(inner),
                }
            }
            if members.contains_key("properties") && !OPEN.iter().any(|name| members.contains_key(*name)) {
                members.insert("additionalProperties".to_owned(), false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(schema: Value) -> Value {
        let mut schema = schema;
        close(&mut schema);
        schema
    }

    #[test]
    fn objects_that_name_their_members_are_closed_where_nothing_speaks_against_it() {
        let inner = json!({"type": "object", "properties": {"x": {"type": "integer"}}});
        let shut = json!({"type": "object", "properties": {"x": {"type": "integer"}}, "additionalProperties": false});
        assert_eq!(closed(inner.clone()), shut);
        let choice = |inner: &Value| json!({"$defs": {"D": inner}, "anyOf": [inner, {"type": "null"}]});
        assert_eq!(closed(choice(&inner)), choice(&shut));
        let outer = |inner: &Value| json!({"properties": {"allOf": inner, "a": {"items": choice(inner)}}, "patternProperties": {}});
        assert_eq!(closed(outer(&inner)), outer(&shut));
        for as_it_is in [
            json!({"type": "object"}),
            json!({"properties": {}, "additionalProperties": true}),
            json!({"properties": {}, "patternProperties": {"^x": {}}}),
            json!({"allOf": [inner, inner]}),
            json!({"properties": {"a": {}}, "anyOf": [inner]}),
            json!({"anyOf": [inner], "oneOf": [inner]}),
            json!({"properties": {"a": {}}, "if": inner, "then": inner, "else": inner}),
            json!({"enum": [inner], "default": inner}),
        ] {
            assert_eq!(closed(as_it_is.clone()), as_it_is);
        }
    }

    #[test]
    fn arguments_are_an_object() {
        for schema in [None, Some(json!({})), Some(json!({"type": "object", "properties": {}}))] {
            let shaped = arguments(schema.as_ref(), false);
            assert_eq!((&shaped["type"], &shaped["additionalProperties"]), (&json!("object"), &json!(false)));
        }
        assert_eq!(arguments(Some(&json!({"properties": {}})), true)["type"], "object");
        assert_eq!(arguments(Some(&json!({"$ref": "#/$defs/A"})), true).get("type"), None);
    }
}
