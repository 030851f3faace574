"""Each undocumented name of Celery that the package uses.

A failure here says what breaks with the version that is installed.
"""

from __future__ import annotations

import logging
import socket
from types import SimpleNamespace

import pytest
from celery import VERSION, Celery, Task, current_app, shared_task, signals
from celery.app.task import Context
from celery.worker.request import Request
from kombu import Producer
from kombu.asynchronous import Hub

from backbeat_celery.runtime.compat import celery, worker


@shared_task(name="tests.compat.decorated")
def decorated(a):
    return a


@pytest.fixture
def app():
    """An app of its own, with one task."""
    app = Celery("compat", broker="memory://", set_as_current=False)

    @app.task(name="one", shared=False)
    def one(a):
        return a

    app.finalize()
    # Shared tasks are in every app, those of other tests too, some of them wrong on purpose.
    for name in {name for name in app.tasks if not name.startswith(("celery.", "one"))}:
        del app.tasks[name]
    return app


# Celery -----------------------------------------------------------------------------------


def test_the_current_app_is_no_proxy():
    assert type(celery.app_in_use()) is Celery, "each signal would go through a proxy"


def test_an_app_keeps_its_tasks_and_messages_among_its_variables(app):
    assert celery.tasks_of(app) is app.tasks
    assert vars(app)["tasks"] is app.tasks, "each signal would take a lock for the tasks"
    assert celery.amqp_of(app) is app.amqp
    assert vars(app)["amqp"] is app.amqp, "each signal would take a lock for the messages"


def test_a_loader_imports_the_task_modules(app):
    app.conf.imports = ["tests.workflows"]
    sent = []
    signals.import_modules.connect(lambda **_: sent.append(1), sender=app, weak=False)
    celery.import_task_modules(app)
    assert sent, "a web process would not know the project's tasks"


def test_an_app_that_celery_makes_up_is_recognized(app):
    assert celery.is_made_up(Celery("default", loader="default", set_as_current=False)), (
        "nobody would be warned that the project's app is missing"
    )
    assert not celery.is_made_up(app)


def test_routes_are_asked_without_sending(app):
    app.conf.task_routes = {"one": {"queue": "fast"}}
    route = celery.route_of(app, {}, "one", app.tasks["one"])
    assert route["queue"].name == "fast", "a node's queue could not be named"
    assert celery.routes_by_name_only(app), "no message could be copied"


def test_a_router_of_the_projects_own_may_look_at_arguments(app):
    app.conf.task_routes = [lambda name, args, kwargs, options, task=None, **_: None]
    assert not celery.routes_by_name_only(app), "it would be asked once for many nodes"


def test_nobody_has_sent_what_no_task_sends(app):
    assert celery.parent_ids(app) == (None, None), "copies would name a parent"
    assert not celery.sends_stamps(app)


def test_what_a_task_sends_names_it(app):
    seen, headers = [], {}

    @app.task(name="parent", shared=False)
    def parent():
        seen.append((celery.parent_ids(app), celery.sends_stamps(app)))
        headers.update(celery.headers_of_call(app.current_task.request))

    request = {"id": "p", "root_id": "r", "stamped_headers": ["s"], "stamps": {"s": 1}}
    celery.build_tracer("parent", parent, app=app)("p", [], {}, {**request, "is_eager": False})
    assert headers["stamps"] == {"s": 1}, "no task call would know of its node"
    assert seen == [(("r", "p"), True)], "copies of a message would not name who sent them"


def test_messages_do_not_read_the_ids_that_a_canvas_shows(app):
    """They would take four statements each."""
    seen = []

    class Asks(Context):
        root_id = property(lambda self: 1 / 0)

    @app.task(name="step", shared=False)
    def step():
        app.current_task.request.__class__ = Asks
        seen.append(celery.parent_ids(app))
        app.current_task.request.__class__ = Context

    request = {"id": "p", "root_id": "r", "is_eager": False}
    celery.build_tracer("step", step, app=app)("p", [], {}, request)
    assert seen == [("r", "p")]


def test_the_handler_of_a_task_with_autoretry_is_found(app):
    def handler():
        raise ValueError("once")

    task = app.task(handler, name="again", shared=False, autoretry_for=(ValueError,))
    app.finalize()
    assert task.run is not celery.handler_of(task), "a node would be retried by the broker"
    with pytest.raises(ValueError, match="once"):
        celery.handler_of(task)()


def test_the_class_of_a_task_tells_that_celery_made_it():
    classes = type(current_app.tasks[decorated.name]).__mro__
    assert any(celery.is_made_of_a_function(vars(cls)) for cls in classes), (
        "classes that Celery makes would be checked while the app is half made"
    )


@pytest.mark.skipif(VERSION[:2] < (5, 7), reason="a function is kept from Celery 5.7 on")
def test_a_task_remembers_its_function():
    function = celery.decorated_function(decorated)
    assert function is not None, "an async handler that something wraps would be accepted"
    assert function(3) == 3


def test_a_task_checks_its_arguments(app):
    check = celery.argument_check(app.tasks["one"])
    assert check is not None, "wrong arguments would be refused only by the worker"
    with pytest.raises(TypeError):
        check(1, 2)


def test_a_registered_task_takes_another_class_before_it_is_traced(app):
    task = app.tasks["one"]
    calls = []

    class Other(type(task)):
        def __call__(self, *args, **kwargs):
            calls.append(args)
            return super().__call__(*args, **kwargs)

    celery.give_class(task, Other)
    celery.build_tracer("one", task, app=app)("id", [5], {}, {"id": "id", "is_eager": False})
    assert calls == [(5,)], "tasks of other packages could not run as nodes"


def test_the_class_of_all_tasks_of_an_app_is_found():
    class Mine(Task):
        pass

    assert celery.class_of_all_tasks(Celery(task_cls=Mine, set_as_current=False)) is Mine, (
        "NodeTask would lose what Celery(task_cls=) gives to every task"
    )


def test_headers_and_their_types_are_those_of_celerys_messages(app):
    message = app.amqp.as_task_v2("id", "one", time_limit=5, stamped_headers=["s"], s=1)
    unknown = message.headers.keys() - celery.HEADERS - {"s"}
    assert not unknown, "nodes would keep Celery's own headers as the project's"
    for name, kind in celery.HEADER_TYPES.items():
        value = message.headers.get(name)
        assert value is None or isinstance(value, kind), f"nodes with {name} would be refused"


def test_a_copied_message_is_what_celery_would_send(app):
    made = {
        task_id: app.amqp.as_task_v2(task_id, "one", (n,), root_id=task_id, argsrepr=f"({n},)")
        for n, task_id in enumerate(("a", "b"))
    }
    first = {**made["a"].properties, "headers": made["a"].headers}
    shown = {name: made["b"].headers[name] for name in ("argsrepr", "kwargsrepr")}
    copied = celery.copied_message(first, {}, "b", (None, None), shown)
    assert copied["headers"] == made["b"].headers, "a copy is not what Celery sends"
    assert copied["correlation_id"] == made["b"].properties["correlation_id"]


def test_receivers_can_be_counted_and_put_first():
    signal = type(signals.task_prerun)(name="compat")
    assert not celery.has_receivers(signal)
    told = []
    signal.connect(lambda **_: told.append("early"), weak=False)
    signal.connect(lambda **_: told.append("ours"), weak=False)
    celery.put_first(signal)
    signal.send(None)
    assert celery.has_receivers(signal)
    assert told == ["ours", "early"], "others would be told the empty arguments of a message"


def test_a_plain_app_sends_plainly(app, monkeypatch):
    assert celery.sends_plainly(app), "each node would have a message made for its headers"
    assert celery.calls_plainly(app.tasks["one"])
    monkeypatch.setattr(app, "send_task", lambda *args, **kwargs: None)
    assert not celery.sends_plainly(app), "headers that an override adds would be lost"


def test_a_patched_publish_is_noticed(app, monkeypatch):
    monkeypatch.setattr(Producer, "publish", lambda *args, **kwargs: None)
    assert not celery.calls_plainly(app.tasks["one"]), "headers that a patch adds would be lost"


def test_no_handler_of_billiard_has_ended_this_process(monkeypatch):
    from billiard import common

    assert celery.is_terminated() is False
    monkeypatch.setattr(common.signal, "signal", lambda *_: None)
    try:
        with pytest.raises(SystemExit):
            common._shutdown_cleanup(15, None)
        assert celery.is_terminated(), "a kill at a time limit would count as a failure of its own"
    finally:
        common._should_have_exited[0] = False


def test_errors_of_task_calls_are_logged_by_this_logger():
    assert celery.trace_logger is logging.getLogger("celery.app.trace"), (
        "a failure would be logged twice, with its secrets"
    )


# A worker ---------------------------------------------------------------------------------


def request_for(app):
    message = app.amqp.as_task_v2("id", "one", (1,), argsrepr="(1,)", kwargsrepr="{}")
    delivered = SimpleNamespace(
        headers={**message.headers, "backbeat": {}},
        body=([1], {}, {}),
        properties={},
        delivery_info={},
        content_type="application/json",
        content_encoding="utf-8",
        errors=None,
        delivery_tag=1,
        payload=([1], {}, {}),
    )
    return Request(
        delivered, app=app, task=app.tasks["one"], hostname="w", eventer=None, decoded=True
    )


def test_a_request_shows_headers_child_and_arguments(app):
    request = request_for(app)
    worker.show_arguments(request)
    assert worker.headers_of(request)["backbeat"] == {}, "no lease would be renewed"
    assert worker.child_of(request) is None
    request.on_accepted(pid=7, time_accepted=0.0)
    assert worker.child_of(request) == 7, "a node would wait for its lease when a child dies"
    assert request.info()["args"] == "(1,)", "monitors would show no arguments of a node"


def test_requests_count_as_acknowledged_for_a_while(app):
    request = request_for(app)
    assert not worker.is_acknowledged(request)
    with worker.as_acknowledged([request]):
        assert worker.is_acknowledged(request), (
            "handlers of nodes would be ended when the broker is lost"
        )
    assert not worker.is_acknowledged(request)


def test_a_worker_tells_its_pool_queues_and_consumer(app):
    made = app.WorkController(app=app, pool="prefork", concurrency=1, queues=["fast"])
    assert "prefork" in worker.module_of_pool(made), "threads would not suit the pool"
    assert worker.queues_of(made) == ["fast"], "the admin could not show a worker's queues"
    gevent = app.WorkController(app=app, pool="celery.concurrency.gevent:TaskPool")
    assert "gevent" in worker.module_of_pool(gevent), "leases would not be renewed with gevent"


def test_a_consumer_has_the_methods_that_are_wrapped():
    from celery.worker.consumer import Consumer

    for name in ("cancel_active_requests", "on_connection_error_after_connected"):
        assert callable(getattr(Consumer, name, None)), f"{name}: nodes would lose attempts"


def test_wrapped_methods_of_a_consumer_are_called_through_ours():
    told = []
    consumer = SimpleNamespace(
        cancel_active_requests=lambda: told.append("cancel"),
        on_connection_error_after_connected=lambda exc: told.append(exc),
    )
    worker.around_cold_shutdown(consumer, lambda call: (told.append("before"), call()))
    worker.around_connection_loss(consumer, lambda call, exc: (told.append("lost"), call(exc)))
    consumer.cancel_active_requests()
    consumer.on_connection_error_after_connected("gone")
    assert told == ["before", "cancel", "lost", "gone"]


def test_the_event_loop_listens_to_a_socket_once():
    ours, theirs = socket.socketpair()
    hub, told = Hub(), []
    try:
        for _ in range(2):
            worker.listen(hub, theirs.fileno(), lambda: told.append(theirs.recv(1)))
        ours.send(b"1")
        next(loop := hub.create_loop())
        assert told == [b"1"], "nothing would be acknowledged"
    finally:
        loop.close()
        hub.close()
        ours.close()
        theirs.close()
