"""The chaos harness: real workers, real servers, real faults, and an auditor afterwards.

`python -m tests.chaos --help` tells how to run it, docs/chaos.md what it proves.
"""
