#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::{operation::operation_id, *};
use crate::tables::SIDES;

/// Method and path of everything that a set of paths has.
fn operations(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, operations): (&String, &Value)| {
        let methods: Vec<_> = operations.as_object().unwrap().keys().cloned().collect();
        methods.into_iter().map(|method| (method, path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value.as_str().filter(|_| name == "$ref") {
                    Some(to) => drop(found.insert(to.to_owned())),
                    None => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_route_is_in_the_document_and_nothing_else_is() {
    let served: BTreeSet<_> =
        routes().iter().map(|route| (route.method.to_ascii_lowercase(), path_of(route.path))).collect();
    assert_eq!(operations(&document()), served);
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 100, "{}", found.len());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn every_command_query_and_row_has_its_schema() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for side in SIDES {
        assert!(schemas.contains_key(&format!("row.{}", side.table.name)));
        for command in side.commands {
            assert!(schemas.contains_key(&format!("args.{}", command.name)), "{}", command.name);
            assert!(schemas.contains_key(&format!("answer.{}", command.name)), "{}", command.name);
        }
        for query in side.queries {
            assert!(schemas.contains_key(&format!("query.{}", query.name)), "{}", query.name);
        }
    }
}

#[test]
fn the_parameters_of_a_path_are_exactly_those_that_the_path_names() {
    let document = document();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let named: BTreeSet<_> = path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        for operation in operations.as_object().unwrap().values() {
            let given = operation["parameters"].as_array().unwrap().iter().filter(|param| param["in"] == "path");
            let given: BTreeSet<_> = given.map(|param| param["name"].as_str().unwrap()).collect();
            assert_eq!(given, named, "{path}");
        }
    }
}

#[test]
fn operation_ids_are_distinct() {
    let ids: BTreeSet<_> = routes().iter().map(operation_id).collect();
    assert_eq!(ids.len(), routes().len());
}
