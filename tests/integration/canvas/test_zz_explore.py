"""usage: pytest this; prints differences"""
import collections, random, sys, json
import pytest
from hypothesis import given, settings, HealthCheck, seed, Phase
from django.db import transaction
from backbeat_celery import signal
from backbeat_celery.testing import Simulation
from backbeat_celery.exceptions import BackbeatError
from tests.integration.canvas.shapes import *
import os, traceback
N=int(os.environ.get("N","300"))
def eager(sig):
    try:
        r=sig.apply()
        return ("ok", r.get() if r is not None else None)
    except Exception as e:
        return ("exc", f"{type(e).__name__}: {e}"[:200])
def ours(sig):
    with transaction.atomic():
        try:
            with Simulation(seed=1) as sim:
                try: node=signal(sig, subject="x")
                except Exception as e:
                    return ("exc", f"{type(e).__name__}: {e}"[:200])
                sim.run(); node.refresh_from_db()
                if node.status!="complete": return ("stuck", node.workflow.render()+str([n.error for n in node.workflow.nodes.filter(status="failed")]))
                return ("ok", node.get_result())
        finally:
            transaction.set_rollback(True)
found=[]
@pytest.mark.django_db
def test_it():
    count=0
    @settings(max_examples=N, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @seed(int(os.environ.get("SEED","0")))
    @given(SHAPES)
    def run(shape):
        nonlocal count
        count+=1
        try:
            a=eager(signature_of(shape, is_eager=True))
        except Exception as e:
            a=("build",f"{type(e).__name__}: {e}"[:200])
        if a[0]=="build":
            found.append((len(json.dumps(shape)),shape,a,None)); return
        b=ours(signature_of(shape))
        if a!=b: found.append((len(json.dumps(shape)),shape,a,b))
    run()
    found.sort(key=lambda f:f[0])
    with open("/tmp/found.txt","w") as out:
        print(count,len(found),file=out)
        for n,s,a,b in found[:60]:
            print(json.dumps(s),"\n   celery",a,"\n   ours  ",b,file=out)
