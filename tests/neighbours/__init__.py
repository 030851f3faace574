"""Real workers beside packages that people have: each a test of what matters to its users.

Two projects, since django-tenants has an engine, an app and settings of its own:

    pytest --ds=tests.neighbours.observed.settings tests/neighbours/observed
    pytest --ds=tests.neighbours.tenanted.settings tests/neighbours/tenanted
"""
