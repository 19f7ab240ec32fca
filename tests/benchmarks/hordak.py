"""django-hordak beside our books: its own environment, its own process, a database of its own on the same server."""

from __future__ import annotations

from marketplace import postgres
from tests.benchmarks import peers_environment, process

LOCK = "tests/benchmarks/hordak.lock"
DATABASE = "grove_bench_hordak"
SECONDS_MAX = 300.0


def measure(turns: int) -> tuple[list[float], str]:
    """Return transfers per second, one rate a turn, or none and why it was not measured."""
    try:
        python = peers_environment.prepared(LOCK, "hordak")
        postgres.ensure_running()
        postgres.drop_database(DATABASE)
        postgres.create_database(DATABASE)
        try:
            asked = {"turns": turns, "database": postgres.django_database(name=DATABASE)}
            answer = process.run("tests.benchmarks.hordak_run", asked, python=python, seconds_max=SECONDS_MAX)
        finally:
            postgres.drop_database(DATABASE)
    except peers_environment.CannotPrepare as error:
        return [], f"not installed: {str(error).splitlines()[0]}"
    except process.Failed as error:
        return [], str(error).strip().splitlines()[-1]
    return answer["rates"], ""
