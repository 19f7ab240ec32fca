"""`manage.py verify` sees one altered row, wherever it lies, and sees that it was repaired."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psycopg
from django.core.management import CommandError, call_command
from django.db import connection

from ledger.models import Ledger
from marketplace.environment import CHECKOUT

FLIPPED = "value = set_byte(value, length(value) - 1, get_byte(value, length(value) - 1) # 1)"

# what is altered -> (statement, its inverse, words of the invariants that see it)
DAMAGES: dict[str, tuple[str, str, str]] = {
    "a transfer of the books": (
        "UPDATE ledger_transfer SET amount = amount + 1 WHERE seq = 5",
        "UPDATE ledger_transfer SET amount = amount - 1 WHERE seq = 5", "books ",
    ),
    "a counter of an account": (
        "UPDATE ledger_account SET debits_posted = debits_posted + 1 WHERE code = 'chain.escrow'",
        "UPDATE ledger_account SET debits_posted = debits_posted - 1 WHERE code = 'chain.escrow'", "books equal chain",
    ),
    "an award": (
        "UPDATE marketplace_award SET units = units + 1 WHERE id = (SELECT min(id::text)::uuid FROM marketplace_award)",
        "UPDATE marketplace_award SET units = units - 1 WHERE id = (SELECT min(id::text)::uuid FROM marketplace_award)",
        "certificate of",
    ),
    "a slot of the chain": (
        f"UPDATE chain.node SET {FLIPPED} WHERE key = (SELECT min(key) FROM chain.node WHERE length(key) = 32)",
        f"UPDATE chain.node SET {FLIPPED} WHERE key = (SELECT min(key) FROM chain.node WHERE length(key) = 32)",
        "chain.every_value_hashes_to_its_key",
    ),
    "a reading": (
        "UPDATE marketplace_reading SET report = report || ' '::bytea "
        "WHERE id = (SELECT min(id) FROM marketplace_reading)",
        "UPDATE marketplace_reading SET report = substr(report, 1, length(report) - 1) "
        "WHERE id = (SELECT min(id) FROM marketplace_reading)", "every reading is signed",
    ),
    "what a verdict rests on": (
        "UPDATE marketplace_verdict SET earned_micros = earned_micros + 1 WHERE is_breach",
        "UPDATE marketplace_verdict SET earned_micros = earned_micros - 1 WHERE is_breach", "every verdict rests",
    ),
    "the fee of a lease": (
        "UPDATE marketplace_lease SET fee_micros = fee_micros + 1 WHERE is_armed",
        "UPDATE marketplace_lease SET fee_micros = fee_micros - 1 WHERE is_armed", "each lease costs",
    ),
    "a line of the trail": (
        "UPDATE marketplace_auditline SET actor = actor || '!' WHERE no = 3",
        "UPDATE marketplace_auditline SET actor = rtrim(actor, '!') WHERE no = 3", "the audit trail is whole",
    ),
}  # fmt: skip


def behind_its_back(statement: str, connect: dict[str, Any]) -> None:
    """Alter rows as somebody with the keys of the database would, past every trigger."""
    with psycopg.connect(**connect) as session:
        session.execute("SET session_replication_role = replica")
        assert session.execute(statement).rowcount >= 1


def broken_invariants() -> list[str]:
    """What `verify` calls broken; the command ends with status 1 exactly when there is something."""
    said, status = io.StringIO(), 0
    try:
        call_command("verify", stdout=said)
    except CommandError as refusal:
        status = refusal.returncode
    found = [line[8:] for line in said.getvalue().splitlines() if line.startswith("BROKEN")]
    assert status == bool(found)
    return found


def test_verify_sees_each_altered_row_and_its_repair(own_world: Callable[[str], str]) -> None:
    own_world("closed")
    connect = connection_words()
    assert broken_invariants() == []

    for what, (damage, repair, words) in DAMAGES.items():
        behind_its_back(damage, connect)
        found = broken_invariants()
        behind_its_back(repair, connect)
        assert any(each.startswith(words) for each in found), f"{what}: {found}"

    Ledger.objects.update(halted=False, halted_reason="")  # a difference with the chain had stopped the payouts
    assert broken_invariants() == []


def test_the_process_exits_with_1_on_a_break(own_world: Callable[[str], str]) -> None:
    name = own_world("closed")
    behind_its_back(DAMAGES["an award"][0], connection_words())

    done = subprocess.run(
        [sys.executable, CHECKOUT / "manage.py", "verify"], capture_output=True, text=True, check=False, timeout=900,
        env=os.environ | {"DATABASE_NAME": name, "NO_BOOTSTRAP": "1"},
    )  # fmt: skip

    assert done.returncode == 1, done.stdout + done.stderr
    assert "At least one invariant is broken" in done.stderr


def connection_words() -> dict[str, Any]:
    """How the test's own database is reached."""
    given = connection.get_connection_params()
    return {key: given[key] for key in ("dbname", "user", "password", "host", "port") if given.get(key)}
