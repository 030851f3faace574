"""What this package uses of Celery, kombu, Django and psycopg that their documentation leaves out.

A minor release of theirs may change it. So it is named here, one module for each of them, and
nowhere else. Each function says what breaks without the name behind it, and
`tests/unit/test_compat.py` asks the installed version for each.
"""
