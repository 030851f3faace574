from celery import chain, group, chord, shared_task
import pytest
from backbeat_celery import signal
from backbeat_celery.testing import Simulation
from backbeat_celery.models import Node

@shared_task(name="cv.add")
def add(x, y): return x + y
@shared_task(name="cv.one")
def one(): return 1
@shared_task(name="cv.zero")
def zero(*a): return 0

@pytest.mark.django_db(transaction=True)
def test_it():
    with Simulation() as sim:
        n = signal(chain(one.si(), group(one.si(), one.si(), chain(one.si(), one.si())), zero.si(), chord([one.si(), one.si()], zero.si())), subject="x")
        sim.run()
        print(n.workflow.render())
        n.refresh_from_db(); assert n.status == "complete"
