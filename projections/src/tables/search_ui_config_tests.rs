#![allow(clippy::unwrap_used)]
use super::*;
use crate::TableEvent;
use tasklog_log::Position;

fn fold(
    row: Option<SearchUiConfigRow>,
    event: impl Into<SearchUiConfigEvent>,
) -> Result<Option<SearchUiConfigRow>, Impossible> {
    let at = At { position: Position(7), recorded_at: 2_000, key: "products" };
    SearchUiConfigs::evolve(row, event.into(), &at)
}

fn page(text: &str, previous: Option<Hash32>, updated_at: i64) -> SearchUiConfigSet {
    SearchUiConfigSet {
        config_json: Json::parse(text).unwrap(),
        config_sha256: Hash32([1; 32]),
        previous_sha256: previous,
        updated_at,
    }
}

const SHOP: &str = r#"{ "title" : "Shop" }"#;

#[test]
fn a_page_is_created_and_replaced_byte_for_byte() {
    let created = fold(None, page(SHOP, None, 1_000)).unwrap().unwrap();
    assert_eq!((&*created.index_uid, created.config_json.as_str(), created.updated_at), ("products", SHOP, 1_000));
    let replaced = fold(Some(created), page("{ }", Some(Hash32([1; 32])), 1_500)).unwrap().unwrap();
    assert_eq!((replaced.config_json.as_str(), replaced.updated_at), ("{ }", 1_500));
}

#[test]
fn a_page_replaces_what_is_there_and_creates_what_is_not() {
    let row = fold(None, page(SHOP, None, 1_000)).unwrap();
    assert!(fold(row, page("{}", None, 1_500)).is_err());
    assert!(fold(None, page("{}", Some(Hash32([1; 32])), 1_500)).is_err());
}

#[test]
fn a_deletion_removes_the_page_that_is_there() {
    let deleted = SearchUiConfigDeleted { last_sha256: Hash32([1; 32]) };
    let row = fold(None, page(SHOP, None, 1_000)).unwrap();
    assert_eq!(fold(row, deleted.clone()), Ok(None));
    assert_eq!(fold(None, deleted), Err(Impossible::no_row("search_ui_config_deleted")));
}

#[test]
fn the_bytes_of_each_event_stay_as_they_are() {
    let events: [(SearchUiConfigEvent, &str); 2] = [
        (
            page(SHOP, Some(Hash32([2; 32])), 1_000).into(),
            "84ab636f6e6669675f6a736f6eb47b20227469746c6522203a202253686f7022207dad636f6e6669675f736861323536\
             c4200101010101010101010101010101010101010101010101010101010101010101af70726576696f75735f73686132\
             3536c4200202020202020202020202020202020202020202020202020202020202020202aa757064617465645f6174cd\
             03e8",
        ),
        (
            SearchUiConfigDeleted { last_sha256: Hash32([1; 32]) }.into(),
            "81ab6c6173745f736861323536c4200101010101010101010101010101010101010101010101010101010101010101",
        ),
    ];
    for (event, bytes) in events {
        assert_eq!(hex::encode(event.encode()), bytes, "{event:?}");
        let known = event.event_type();
        assert_eq!(SearchUiConfigEvent::decode(known.name, 1, &hex::decode(bytes).unwrap()).unwrap(), event);
    }
}
