"""The module `shop.tasks` of one page, in a process that is left as it was found."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import shop
from celery import _state, current_app
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import transaction
from shop import bank, gateway, models

from backbeat_celery.models import Workflow
from backbeat_celery.testing import Simulation

NAME = "shop.tasks"
PREAMBLE = Path(models.__file__).with_name("tasks.py")


@contextmanager
def page_module() -> Iterator[ModuleType]:
    """Open a shop with two cameras, and a copy of its tasks, in a Simulation."""
    with _rolled_back(), _kept_celery(), _kept_admin(), _kept_module(), Simulation() as sim:
        module = ModuleType(NAME)
        module.__file__ = str(PREAMBLE)
        sys.modules[NAME] = shop.tasks = module
        source = compile(PREAMBLE.read_text(), PREAMBLE, "exec", dont_inherit=True)
        exec(source, module.__dict__)
        forget()
        vars(module).update(
            sim=sim,
            app=current_app._get_current_object(),
            camera=models.Camera.objects.create(pk=1, number=703, card="declined once"),
            other_camera=models.Camera.objects.create(pk=2, number=704),
            request=SimpleNamespace(user=User.objects.create_user("ada")),
        )
        yield module


def forget() -> None:
    """Forget what the shop keeps outside of the database."""
    gateway.forget()
    bank.orders.clear()


@contextmanager
def empty_shop() -> Iterator[Simulation]:
    """Let a test find no rows, and leave none."""
    with _rolled_back():
        for model in (Workflow, models.Camera, models.Product, models.Notification):
            model.objects.all().delete()
        forget()
        with Simulation() as sim:
            yield sim
        forget()


def unregister(names: Collection[str]) -> None:
    """Let tasks be defined again: Celery keeps the first of a name."""
    for app in _state._get_active_apps():
        for name in names:
            app.tasks.pop(f"{NAME}.{name}", None)


@contextmanager
def _rolled_back() -> Iterator[None]:
    with transaction.atomic():
        try:
            yield
        finally:
            transaction.set_rollback(True)


@contextmanager
def _kept_module() -> Iterator[None]:
    try:
        yield
    finally:
        sys.modules.pop(NAME, None)
        vars(shop).pop("tasks", None)


@contextmanager
def _kept_celery() -> Iterator[None]:
    """Undo what a page does to Celery: its tasks, its apps and its timetable."""
    app = current_app._get_current_object()
    finalizers, apps = set(_state._on_app_finalizers), set(_state._get_active_apps())
    schedule = app.conf.beat_schedule
    _drop_tasks()
    try:
        yield
    finally:
        app.set_current()
        app.set_default()
        app.conf.beat_schedule = schedule
        _state._on_app_finalizers.clear()
        _state._on_app_finalizers.update(finalizers)
        for new in set(_state._get_active_apps()) - apps:
            _state._deregister_app(new)
        _drop_tasks()


def _drop_tasks() -> None:
    for app in _state._get_active_apps():
        unregister([n.removeprefix(f"{NAME}.") for n in app.tasks if n.startswith(f"{NAME}.")])


@contextmanager
def _kept_admin() -> Iterator[None]:
    registry = dict(admin.site._registry)
    try:
        yield
    finally:
        admin.site._registry.clear()
        admin.site._registry.update(registry)
