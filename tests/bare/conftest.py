"""The small project with its tables and a user, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import services
from tests.bare.house import SECRET, House

USERS = """
from django.contrib.auth.models import Permission, User
User.objects.create_superuser("root", password="pw")
viewer = User.objects.create_user("kim", password="pw", is_staff=True)
viewer.user_permissions.set(Permission.objects.filter(codename__in=["view_node", "view_workflow"]))
"""
NODES = f"""
import json
from backbeat_celery import signal
from backbeat_celery.models import Node
from backbeat_celery.testing import Simulation
from backbeat_celery.inputs.tokens import Ticket, sign
from till.tasks import ask_again, ask_bank, charge
with Simulation() as sim:
    charged = signal(charge.s("{SECRET}", 56), subject="order")
    asked = [signal(ask_bank.s("{SECRET}", 5), subject=f"order {{n}}") for n in range(4)]
    asked.append(signal(ask_again.s("{SECRET}"), subject="again"))
    sim.run()
charged.refresh_from_db()
assert charged.status == "failed" and "{SECRET}" in charged.error, charged.error
asked = [Node.objects.get(pk=node.pk) for node in asked]
assert {{node.status for node in asked}} == {{"running"}}
print(json.dumps({{
    "charged": str(charged.pk),
    "workflow": str(charged.workflow_id),
    "asked": [str(node.pk) for node in asked],
    "tokens": [sign(Ticket("default", n.pk, n.attempt, n.claim_id)) for n in asked],
}}))
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The processes have a database of their own: one run of the suite is enough."""
    elsewhere = (services.database_kind(), services.broker_kind()) != ("sqlite", "embedded")
    for item in items:
        if elsewhere and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="the same on every database"))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> House:
    house = House(tmp_path_factory.mktemp("house"))
    house.manage("migrate", "-v", "0")
    house.made = house.python(USERS + NODES)
    return house


@pytest.fixture
def house(built: House, tmp_path: Path) -> House:
    """A copy for one test."""
    return built.copy(tmp_path)
