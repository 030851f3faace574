"""The undocumented names of Celery, kombu, Django and psycopg that this package uses.

A minor release may change them. So they are used here, in one module for each library, and
nowhere else. Each function says what breaks without the name behind it, and
`tests/unit/test_compat.py` asks the installed version for each.
"""
