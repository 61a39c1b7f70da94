//! What every log promises, on every backend: each bullet of the contract of [`tasklog_log::Log`] is at least one case.
//!
//! A backend joins with a `Harness` and one line below. A case joins with its name in `each_case`; one that is
//! forgotten there is dead code, and the compiler says so.

#[path = "../common/mod.rs"]
mod common;

mod agreement;
mod cases;

/// Calls `$run!` with the name of every case.
macro_rules! each_case {
    ($run:ident) => {
        $run! {
            an_empty_log_is_before_everything
            positions_are_dense_and_start_at_one
            a_commit_is_whole_or_absent
            no_reader_sees_a_part_of_a_commit
            a_commit_is_readable_at_once_as_it_was_given
            odd_texts_and_bytes_come_back_unchanged
            an_empty_batch_changes_nothing
            a_stale_condition_refuses_only_its_own_commit
            every_stale_condition_is_named_with_its_current_rev
            a_row_that_was_only_read_is_a_condition_too
            a_later_commit_of_a_batch_sees_the_revs_the_earlier_ones_left
            a_refused_commit_leaves_no_rev_for_the_later_ones
            two_handles_share_one_log
            an_entitys_events_are_linked_across_commits
            two_events_on_one_entity_in_one_commit_are_linked
            a_new_chain_starts_without_a_link_and_goes_on_from_itself
            equal_keys_of_two_tables_are_two_entities
            an_entitys_positions_are_found_where_no_link_leads
            recorded_at_never_decreases_when_the_clock_jumps_back
            a_commit_decided_at_an_instant_of_its_own_is_recorded_at_it
            now_is_never_below_the_last_event
            a_repeated_answered_id_is_not_appended_again
            a_repeated_id_is_answered_even_if_its_conditions_no_longer_hold
            a_repeated_id_within_one_batch_is_appended_once
            a_refused_commit_keeps_no_answer
            an_id_without_an_answer_is_not_kept
            an_empty_answer_is_an_answer
            reading_is_exclusive_of_after
            a_page_has_at_least_one_whole_commit
            a_page_ends_with_the_commit_that_reaches_the_limit
            reading_from_inside_a_commit_brings_it_whole
            reading_beyond_the_head_is_empty
            every_event_is_found_by_its_position
            stored_checksums_are_right
            wait_answers_at_once_if_the_head_is_beyond
            wait_ends_with_its_timeout
            wait_wakes_up_when_another_handle_appends
            a_commit_of_a_thousand_events_fits
            a_commit_beyond_the_bounds_fails_its_batch
            an_error_from_append_leaves_nothing_of_the_batch
            an_event_without_a_condition_on_its_entity_is_an_error
            head_and_identity_survive_reopening
            answers_survive_reopening
            adopted_commits_read_back_equal
            an_empty_log_takes_over_an_identity
            a_log_with_events_keeps_its_identity
            adopting_across_a_gap_is_refused
            adopting_a_commit_twice_is_refused
            adopting_a_wrong_checksum_is_refused_as_corrupt
            a_refused_adoption_leaves_nothing_of_its_commits
            appends_go_on_after_adopted_commits
            adopted_commits_wake_up_a_waiting_reader
        }
    };
}

/// The cases as tests of the `Backend` of the module that calls it.
macro_rules! tests {
    ($($case:ident)*) => {
        $(#[test]
        fn $case() {
            crate::cases::$case::<Backend>();
        })*
    };
}

macro_rules! backends {
    ($($backend:ident => $harness:ty;)*) => {
        mod conformance {
            $(mod $backend {
                type Backend = $harness;
                each_case! { tests }
            })*
        }
    };
}

backends! {
    memory => crate::common::Memory;
    sqlite => crate::common::Sqlite;
    redis => crate::common::Redis;
}
