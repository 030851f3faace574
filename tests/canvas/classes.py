"""Which of Celery's canvas tests say something about nodes, by the names they have there.

Class A needs nothing but results. B looks at ids, errors' ids or headers of messages. C looks
into Celery's own parts: tests of ours stand for them. N runs nothing on a worker, or only tasks
that are no canvas. What is not named is A.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

COUNTS = {"A": 158, "B": 29, "C": 7, "N": 18}
"""How many tests each class has."""

GOAL_OF_B = 24
"""How many of class B pass on nodes, at least."""

OUTSIDE = frozenset({"test_chord::test_error_propagates_from_chord"})
"""Tests of class A that fail on plain Celery, and say so themselves."""

LONG = {
    "test_chord::test_disabling_flag_allow_error_cb_on_chord_header": 150,
    "test_chord::test_enabling_flag_allow_error_cb_on_chord_header": 85,
    "test_chord::test_flag_allow_error_cb_on_chord_header_on_upgraded_chord": 70,
}
"""Tests that sleep for longer than 40 seconds, and for how many: a sample leaves them out.

They try seven headers one after another, and wait ten seconds each time for a message that must
not come.
"""

HURRIED = frozenset(
    {
        "test_group::test_large_group",
        "test_group::test_errback_called_by_group_fail_multiple",
        "test_chord::test_large_header",
        "test_chord::test_chain_to_a_chord_with_large_header",
        "test_chord::test_immutable_errback_called_by_chord_from_group_fail_multiple",
        "test_chord::test_chord_unlock_with_failed_task_in_nested_chain_member",
        "test_chain::test_chord_soft_timeout_recuperation",
    }
)
"""Tests whose time is short on a busy machine: a thousand members in a minute, forty error
callbacks in a second. A sample leaves them out, too."""

B = frozenset(
    {
        "test_link_error::test_mutable_errback_with_stored_arguments",
        "test_chain::test_parent_ids",
        "test_chain::test_chain_of_two_groups_as_tuple_holds_each_task_once",
        "test_chain::test_chord_with_chain_body_with_task_id",
        "test_group::test_parent_ids",
        "test_group::test_group_ending_a_chain_in_a_group_gets_its_own_id",
        "test_group::test_mutable_errback_called_by_group",
        "test_chord::test_group_or_task_countdown_delays_header",
        "test_chord::test_parent_ids",
        "test_chord::test_parent_ids__plain_task_body",
        "test_chord::test_parent_ids__OR",
        "test_chord::test_priority",
        "test_chord::test_priority_chain",
        "test_chord::test_group_body_does_not_take_the_header_id",
        "test_chord::test_mutable_errback_called_by_chord_from_simple",
        "test_chord::test_mutable_errback_called_by_chord_from_chain",
        "test_chord::test_mutable_errback_called_by_chord_from_chain_tail",
        "test_chord::test_mutable_errback_called_by_chord_from_group",
        "test_chord::test_mutable_errback_called_by_chord_from_group_fail_multiple_on_header_failure",
        "test_chord::test_mutable_errback_called_by_chord_from_group_fail_multiple_on_body_failure",
        "test_chord::test_chain_of_implicit_chords_as_body",
        "test_chord::test_link_error_option_runs_on_body_failure",
        "test_xmap_xstarmap::test_starmap_keeps_frozen_id_and_link",
        "test_stamping_mechanism::test_stamp_value_type_defined_by_visitor",
        "test_stamping_mechanism::test_properties_not_affected_from_stamping",
        "test_stamping_mechanism::test_task_received_has_access_to_stamps",
        "test_stamping_mechanism::test_all_tasks_of_canvas_are_stamped",
        "test_stamping_mechanism::test_replace_merge_stamps",
        "test_stamping_mechanism::test_stamps_remain_on_task_retry",
    }
)

C = frozenset(
    {
        "test_chain::test_groupresult_serialization",
        "test_chain::test_chord_header_id_duplicated_on_rabbitmq_msg_duplication",
        "test_chord::test_chord_on_error",
        "test_chord::test_generator",
        "test_stamping_mechanism::test_stamping_workflow",
        "test_stamping_mechanism::test_linking_stamped_sig",
        "test_stamping_mechanism::test_err_linking_stamped_sig",
    }
)

N = frozenset(
    {
        "test_link_error::test_link_error_eager",
        "test_link_error::test_link_error",
        "test_link_error::test_link_error_callback_error_callback_retries_eager",
        "test_link_error::test_link_error_using_signature_eager",
        "test_chain::test_eager_chain_inside_task",
        "test_chain::test_freezing_chain_sets_id_of_last_task",
        "test_result_set::test_result_set",
        "test_result_set::test_result_set_error",
        "test_result_set::test_result_set_built_via_add",
        "test_result_set::test_result_set_add_after_ready",
        "test_result_set::test_join_exhausted_timeout",
        "test_result_set::test_join_native_timeout_zero_gives_up_on_pending_results",
        "test_result_set::test_join_native_timeout_zero_returns_results_that_are_ready",
        "test_group::test_empty_group_result",
        "test_chord::test_simple_chord_with_a_delay_in_group_save",
        "test_chord::test_redis_subscribed_channels_leak",
        "test_chord::test_eager_chord_inside_task",
        "test_stamping_mechanism::test_stamp_canvas_with_dictionary_link",
    }
)


NAMED = OUTSIDE | LONG.keys() | HURRIED | B | C | N
"""All names in this module."""


def class_of(test: str) -> str:
    """The class of a test, named as `test_group::test_name`."""
    return next((name for name, tests in (("B", B), ("C", C), ("N", N)) if test in tests), "A")


def of_class(tests: Iterable[str], wanted: str) -> list[str]:
    """The tests of one class, without those that are outside of the comparison."""
    return [test for test in tests if class_of(test) == wanted and test not in OUTSIDE]


def counts(tests: Iterable[str]) -> dict[str, int]:
    """How many of the tests each class has."""
    found = Counter(class_of(test) for test in tests)
    return {name: found[name] for name in COUNTS}
