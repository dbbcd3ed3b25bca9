//! The published SDKs as workers: every scenario is written once and run with each of them, as a puppet.

use headwater_tests::Sdk;

mod calls;
mod triggers;

/// A module of tests for each SDK, with these scenarios.
macro_rules! with_each_sdk {
    ($($file:ident :: $scenario:ident,)*) => {
        with_each_sdk!(@ node Node $($file $scenario)*);
        with_each_sdk!(@ python Python $($file $scenario)*);
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
}
