//! The published SDKs as workers: every scenario is written once and run with each of them, as a puppet.

use headwater_tests::Sdk;

mod calls;
mod custom;
mod joins;
mod restarts;
mod triggers;

/// A module of tests for each SDK, with these scenarios.
macro_rules! with_each_sdk {
    ($($file:ident :: $scenario:ident,)*) => {
        with_each_sdk!(@ node Node $($file $scenario)*);
        with_each_sdk!(@ python Python $($file $scenario)*);
        with_each_sdk!(@ rust Rust $($file $scenario)*);
    };
    (@ $module:ident $sdk:ident $($file:ident $scenario:ident)*) => {
        mod $module {
            $(#[tokio::test]
            async fn $scenario() {
                super::$file::$scenario(super::Sdk::$sdk).await;
            })*
        }
    };
}

with_each_sdk! {
    calls::a_handler_that_throws_gives_its_caller_a_code_and_its_message,
    calls::a_handler_over_its_deadline_times_out_and_its_late_answer_is_dropped,
    calls::a_call_ends_at_once_when_its_worker_is_killed,
    calls::functions_go_when_they_are_taken_back_and_with_their_worker,
    calls::workers_find_each_other_and_what_they_offer,
    calls::a_worker_with_the_token_of_the_port_gets_in,
    triggers::a_trigger_gets_the_frames_that_subscribers_get,
    triggers::a_condition_that_is_false_or_fails_skips_the_handler,
    triggers::a_handler_that_throws_hurts_neither_the_writer_nor_the_next_event,
    triggers::a_handler_that_sleeps_keeps_its_own_group_waiting_and_no_other,
    triggers::a_handler_over_its_deadline_gives_way_to_the_next_event,
    triggers::five_thousand_sets_call_a_handler_five_thousand_times_in_order,
    custom::a_stream_of_a_worker_is_read_from_it_written_to_it_and_followed,
    joins::a_gate_refuses_one_user_and_lets_another_in_by_the_context,
    joins::a_token_comes_as_header_as_query_parameter_or_as_subprotocol,
    joins::a_gate_that_throws_lets_in_unless_it_must_fail_closed,
    joins::a_condition_decides_which_joins_a_gate_is_asked_about,
    joins::a_gate_holds_while_its_worker_is_away_after_a_crash,
    restarts::a_worker_finds_back_after_kill_9_and_its_triggers_fire_again,
    restarts::a_worker_finds_back_after_a_stop_in_good_order_that_told_of_all_leaves,
}
