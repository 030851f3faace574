"""W1, children: nodes that do nothing, children of one parent, against tasks without results."""

from __future__ import annotations

from benchmarks.harness import Round, main


def ours(run: Round) -> None:
    """One signal that spawns them all."""
    _family(run, in_bundles=False)


def ours_bundles(run: Round) -> None:
    """The same, fifty children a message."""
    _family(run, in_bundles=True)


def _family(run: Round, in_bundles: bool) -> None:
    from benchmarks.ours.project import run_tree
    from benchmarks.ours.tasks import family

    run_tree(run, family.s(run.size, "non_blocking", in_bundles), run.size + 1)


def celery(run: Round) -> None:
    """One client that sends them all."""
    from benchmarks.plain.project import send_all

    send_all(run)


if __name__ == "__main__":
    main(ours=ours, ours_bundles=ours_bundles, celery=celery)
