"""Each undocumented name of kombu, Django and psycopg that the package uses.

A failure here says what breaks with the version that is installed.
"""

from __future__ import annotations

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import Group, User
from django.contrib.messages.storage.fallback import FallbackStorage
from django.db import OperationalError as DjangoOperationalError
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.utils.log import log_response
from kombu import Connection, Producer

from backbeat_celery.models import Node
from backbeat_celery.runtime.compat import django, kombu

# kombu ------------------------------------------------------------------------------------


def test_messages_are_sent_in_batches_where_kombu_has_them(monkeypatch):
    with Connection("memory://") as connected:
        producer = Producer(connected.channel())
        for _ in range(2):  # with and without, whatever is installed
            with kombu.in_batches(producer, 10):
                producer.publish({"a": 1}, routing_key="compat")
            monkeypatch.delattr(Producer, "batch", raising=False)


def test_the_headers_of_a_message_are_kept_and_nothing_is_sent():
    recorder = kombu.HeaderRecorder()
    recorder.publish({"a": 1}, headers={"tenant": "t"}, routing_key="compat")
    assert recorder.taken is not None, "nodes would lose headers of other packages"
    assert recorder.taken["tenant"] == "t"


def test_no_greenlets_run_here():
    assert kombu.detect_environment() == "default", "nobody could tell gevent from threads"


# Django -----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_instance_is_made_without_its_constructor(django_assert_num_queries):
    user = django.instance(User, "default", {"id": 5, "username": "ada"})
    group = django.instance(Group, "default", {"id": 6}, adding=True)
    assert user._state.db == "default", "a node would be looked for in the wrong database"
    assert (user._state.adding, group._state.adding) == (False, True)
    assert user._state is not group._state, "two nodes would share what they know of relations"
    assert django.column_values(user) == {"id": 5, "username": "ada"}


@pytest.mark.django_db
def test_a_related_object_is_known_without_a_query(django_assert_num_queries):
    node = django.instance(Node, "default", {"workflow_id": None, "parent_id": "p"})
    parent = django.instance(Node, "default", {"id": "p"})
    django.keep_related(node, "parent", parent)
    with django_assert_num_queries(0):  # each claim would read its workflow
        assert node.parent is parent


@pytest.mark.django_db
def test_rows_are_inserted_with_some_columns_and_deleted_without_being_read(
    django_assert_num_queries,
):
    rows, name = Group.objects.all(), Group._meta.get_field("name")
    groups = [Group(name=f"g{n}") for n in range(3)]
    assert django.rows_in_a_statement(connection, [name], groups) >= 3
    with django_assert_num_queries(1):  # a fan-out would take more statements
        django.insert_rows(rows.using("default"), groups, [name], "default")
    with django_assert_num_queries(1):  # a purge would read every row
        assert django.delete_rows(rows.filter(name__startswith="g"), "default") == 3


@pytest.mark.django_db(transaction=True)
def test_a_connection_inside_a_block_is_dropped():
    other = connections["default"].copy()
    other.ensure_connection()
    with transaction.atomic():
        other.in_atomic_block = True
        django.drop_connection(other)
    assert other.connection is None, "a handler's open transaction would hold up its record"


@pytest.mark.django_db(transaction=True)
def test_who_observes_a_connection_is_known():
    assert not django.is_observed(connection)
    with transaction.atomic():
        assert django.is_observed(connection), "a statement would leave its transaction"
    with connection.execute_wrapper(lambda execute, *args: execute(*args)):
        assert django.is_observed(connection), "a wrapper would miss our statements"
    connection.force_debug_cursor = True
    try:
        assert django.is_observed(connection), "the query log would miss our statements"
    finally:
        connection.force_debug_cursor = False


@pytest.mark.django_db(transaction=True)
def test_a_connection_is_checked_wrapped_and_shared():
    django.ensure_usable(connection)
    assert connection.connection is not None
    error = connection.Database.OperationalError
    with pytest.raises(DjangoOperationalError), django.errors_as_django_has_them(connection):
        raise error("nobody would take our statements' errors for Django's")
    was = connection.allow_thread_sharing
    django.share_between_threads(connection)
    assert connection.allow_thread_sharing, "no greenlet could use another one's session"
    connection.dec_thread_sharing()
    assert connection.allow_thread_sharing == was


def test_another_connection_takes_the_place_of_djangos():
    theirs = connections["default"]
    own = theirs.copy()
    django.replace_connection("default", own)
    try:
        assert connections["default"] is own, "the engine would work in the handlers' session"
    finally:
        django.replace_connection("default", theirs)


def test_psycopg_is_version_three_or_not_there():
    pytest.importorskip("psycopg")
    assert django.is_psycopg3(), "our statements would be tried with psycopg2"


def test_a_response_is_kept_out_of_the_log(caplog):
    response = HttpResponse(status=404)
    django.keep_out_of_the_log(response)
    log_response("Not Found: /token", response=response)
    assert not caplog.records, "a refused path would be logged, and the token in it"


@pytest.mark.django_db
def test_a_page_of_an_object_that_is_gone_leads_elsewhere(rf):
    request = rf.get("/")
    request.session, request.user = {}, User(is_superuser=True)
    request._messages = FallbackStorage(request)
    answer = django.redirect_for_missing(site.get_model_admin(Node), request, "7")
    assert answer.status_code == 302, "the page of a node that is gone would be an error"


# psycopg ----------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "postgresql", reason="BACKBEAT_TEST_DB=postgres")
def test_psycopg_gives_results_and_errors():
    from psycopg import errors

    from backbeat_celery.runtime.compat import psycopg

    with connection.cursor() as cursor:
        cursor.execute("SELECT 7")
        assert psycopg.result_of(cursor).get_value(0, 0) == b"7", "rows would have other types"
    pgconn = connection.connection.pgconn
    with transaction.atomic():
        error = psycopg.error_of(pgconn.exec_(b"SELECT 1/0"))
        assert isinstance(error, errors.DivisionByZero), "a conflict would not be tried again"
        transaction.set_rollback(True)
