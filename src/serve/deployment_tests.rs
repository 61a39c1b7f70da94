#![allow(clippy::unwrap_used)]

use super::*;

/// The examples of the specification: the rule, the values, and whether they are accepted.
const EXAMPLES: &[(u8, &str, bool)] = &[
    (0, r#"{"miroir": {"replicas": 2}, "taskStore": {"backend": "redis"}}"#, true),
    (0, r#"{"miroir": {"replicas": 1}, "taskStore": {"backend": "redis"}}"#, false),
    (1, r#"{"miroir": {"replicas": 1}, "taskStore": {"backend": "sqlite"}}"#, true),
    (1, r#"{"miroir": {"replicas": 2}, "taskStore": {"backend": "sqlite"}}"#, false),
    (2, r#"{"miroir": {"replicas": 2, "hpa": {"enabled": true}}, "taskStore": {"backend": "redis"}}"#, true),
    (2, r#"{"miroir": {"replicas": 1, "hpa": {"enabled": true}}, "taskStore": {"backend": "sqlite"}}"#, false),
    (2, r#"{"miroir": {"replicas": 1, "hpa": {"enabled": false}}, "taskStore": {"backend": "sqlite"}}"#, true),
    (2, r#"{"miroir": {"replicas": 2, "hpa": {"enabled": true}}, "taskStore": {"backend": "sqlite"}}"#, false),
    (
        3,
        r#"{"miroir": {"replicas": 3}, "taskStore": {"backend": "redis"}, "search_ui": {"rate_limit": {"backend": "redis"}}}"#,
        true,
    ),
    (
        3,
        r#"{"miroir": {"replicas": 3}, "taskStore": {"backend": "redis"}, "search_ui": {"rate_limit": {"backend": "local"}}}"#,
        false,
    ),
    (
        3,
        r#"{"miroir": {"replicas": 1}, "taskStore": {"backend": "sqlite"}, "search_ui": {"rate_limit": {"backend": "local"}}}"#,
        true,
    ),
    (
        4,
        r#"{"miroir": {"replicas": 3}, "taskStore": {"backend": "redis"}, "admin_ui": {"rate_limit": {"backend": "redis"}}}"#,
        true,
    ),
    (
        4,
        r#"{"miroir": {"replicas": 3}, "taskStore": {"backend": "redis"}, "admin_ui": {"rate_limit": {"backend": "local"}}}"#,
        false,
    ),
    (5, r#"{"search_ui": {"scoped_key_max_age_days": 60, "scoped_key_rotate_before_expiry_days": 30}}"#, true),
    (5, r#"{"search_ui": {"scoped_key_max_age_days": 60, "scoped_key_rotate_before_expiry_days": 60}}"#, false),
    (5, r#"{"search_ui": {"scoped_key_max_age_days": 60, "scoped_key_rotate_before_expiry_days": 90}}"#, false),
    (5, r#"{"search_ui": {"scoped_key_max_age_days": 60, "scoped_key_rotate_before_expiry_days": 0}}"#, false),
    (5, r#"{"search_ui": {"scoped_key_max_age_days": 30}}"#, false),
    (
        6,
        r#"{"miroir": {"replicas": 4, "hpa": {"enabled": true, "minReplicas": 2, "maxReplicas": 24}}, "taskStore": {"backend": "redis"}}"#,
        true,
    ),
    (
        6,
        r#"{"miroir": {"replicas": 4, "hpa": {"enabled": true, "minReplicas": 1, "maxReplicas": 24}}, "taskStore": {"backend": "redis"}}"#,
        false,
    ),
    (
        6,
        r#"{"miroir": {"replicas": 4, "hpa": {"enabled": true, "minReplicas": 2, "maxReplicas": 1}}, "taskStore": {"backend": "redis"}}"#,
        false,
    ),
    (6, r#"{"leader_election": {"lease_ttl_s": 10, "renew_interval_s": 3}}"#, true),
    (6, r#"{"leader_election": {"lease_ttl_s": 3, "renew_interval_s": 3}}"#, false),
    (
        6,
        r#"{"miroir": {"replicas": 1}, "taskStore": {"backend": "sqlite"}, "cdc": {"buffer": {"overflow": "redis"}}}"#,
        false,
    ),
    (6, r#"{"taskStore": {"backend": "sqlite"}, "search_ui": {"rate_limit": {"backend": "redis"}}}"#, false),
    (6, r#"{"taskStore": {"backend": "sqlite"}, "admin_ui": {"rate_limit": {"backend": "redis"}}}"#, false),
];

#[test]
fn every_example_of_the_specification_is_judged_as_it_says_and_for_its_own_rule() {
    for (rule, text, accepted) in EXAMPLES {
        let broken: Vec<_> = check(&Values::parse(text).unwrap()).iter().map(|violation| violation.rule).collect();
        if *accepted {
            assert!(broken.is_empty(), "rule {rule}: {text} breaks {broken:?}");
        } else {
            assert!(broken.contains(rule), "rule {rule}: {text} breaks {broken:?}");
        }
    }
}

#[test]
fn a_rejected_example_breaks_no_rule_that_it_is_not_about() {
    // An autoscaler over sqlite breaks the rules of both.
    let also = |rule| if rule == 2 { &[1, 2][..] } else { &[][..] };
    for (rule, text, _) in EXAMPLES.iter().filter(|(_, _, accepted)| !accepted) {
        for violation in check(&Values::parse(text).unwrap()) {
            let expected = violation.rule == *rule || also(*rule).contains(&violation.rule);
            assert!(expected, "rule {rule}: {text}: {violation}");
        }
    }
}

#[test]
fn the_untouched_defaults_and_redis_without_an_autoscaler_are_accepted() {
    assert_eq!(check(&Values::default()), []);
    let redis = r#"{"miroir": {"replicas": 2, "hpa": {"enabled": false}}, "taskStore": {"backend": "redis"}}"#;
    assert_eq!(check(&Values::parse(redis).unwrap()), []);
}

#[test]
fn values_that_no_rule_is_about_are_passed_over_and_wrong_types_are_named() {
    let values = Values::parse(r#"{"image": {"tag": "1"}, "redis": {"enabled": false}, "miroir": {"shards": 64}}"#);
    assert_eq!(check(&values.unwrap()), []);
    let wrong = Values::parse(r#"{"miroir": {"replicas": "two"}}"#).unwrap_err().to_string();
    assert!(wrong.contains("two"), "{wrong}");
    let unknown = Values::parse(r#"{"taskStore": {"backend": "etcd"}}"#).unwrap_err().to_string();
    assert!(unknown.contains("etcd"), "{unknown}");
}
