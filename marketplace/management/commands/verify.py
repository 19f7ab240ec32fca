"""`manage.py verify`: every invariant over the live books, chain and certificates. Exits 1 when one is broken."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from ledger.rails import evm
from marketplace import clock
from marketplace.management.commands.demo import use_demo_database


class Command(BaseCommand):
    """Check everything, or one published bundle."""

    help = "Check every invariant of books, chain and certificates; exit 1 on a break."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        only = (
            "check only a bundle: clearing PATH; an exported audit trail: audit PATH; the proof of a payout: "
            "payout PATH; only the books: ledger, or an exported file of their transfers: ledger PATH; or rebuild them "
            "from the chain: chain"
        )
        parser.add_argument("what", nargs="?", choices=("clearing", "audit", "payout", "ledger", "chain"), help=only)
        parser.add_argument("path", nargs="?", type=Path, help="folder or .zip of the bundle, or the file")
        parser.add_argument("--bundle", type=Path, help="of the window, for a proof of a payout without awards")
        parser.add_argument("--opening", type=Path, help="show that an award in the proof of a payout is one's own")
        parser.add_argument("--replay", action="store_true", help="clear the bundle's lines again, compare every byte")
        parser.add_argument("--demo", action="store_true", help="of the last demo instead of the live market")

    def handle(
        self, *args: Any, what: str | None, path: Path | None, replay: bool, demo: bool, bundle: Path | None,
        opening: Path | None, **options: Any,
    ) -> None:  # fmt: skip
        if what == "clearing":
            self.check_bundle(path)
            if replay and path is not None:
                self.clear_again(path)
            return
        if what == "audit":
            self.check_trail(path)
            return
        if what == "payout":
            self.check_payout(path, bundle, opening)
            return
        if what == "ledger" and path is not None:
            self.check_transfers(path)
            return
        if demo:
            use_demo_database(fresh=False)
        if what in ("ledger", "chain"):
            self.check_books() if what == "ledger" else self.rebuild_from_chain()
            return
        if "marketplace_window" not in connection.introspection.table_names():
            raise CommandError("There is no market here yet; `manage.py up` or `manage.py demo` makes one.")
        from marketplace.invariants import check_everything

        findings = check_everything(now=clock.now())
        evm.close_all()
        for found in findings:
            word = "BROKEN" if not found.ok else "ok    " if found.looked else "unseen"
            self.stdout.write(f"{word}  {found.name}: {found.detail}")
        broken, unseen = sum(not found.ok for found in findings), sum(not found.looked for found in findings)
        seen = f"{len(findings) - unseen} invariants checked, {broken} broken"
        self.stdout.write(seen + (f", {unseen} could not be looked at" if unseen else ""))
        if broken:
            raise CommandError("At least one invariant is broken.", returncode=1)

    def check_books(self) -> None:
        """Recompute every ledger from its transfers in one pass, and compare the roots of its epochs with the chain."""
        from ledger.audit import audit_ledger
        from ledger.models import Ledger
        from ledger.rails.anchors import check_anchors
        from ledger.rails.errors import ChainUnreachable

        if "ledger_ledger" not in connection.introspection.table_names():
            raise CommandError("There are no books here yet; `manage.py up` or `manage.py demo` makes some.")
        ledgers = list(Ledger.objects.order_by("pk"))
        findings = [found for ledger in ledgers for found in audit_ledger(ledger.pk)]
        try:
            findings.append(check_anchors())
        except ChainUnreachable as problem:
            self.stdout.write(f"unseen  L8: the roots on chain could not be looked at: {problem}")
        evm.close_all()
        for found in findings:
            self.stdout.write(f"{'ok    ' if found.ok else 'BROKEN'}  {found.invariant}: {found.detail}")
        transfers, broken = sum(ledger.next_seq - 1 for ledger in ledgers), sum(not found.ok for found in findings)
        self.stdout.write(f"{transfers} transfers, {len(findings)} invariants checked, {broken} broken")
        if broken:
            raise CommandError("The books are not what their history says.", returncode=1)

    def check_transfers(self, path: Path) -> None:
        """Check an exported file of transfers from its own words, without a database."""
        from ledger.errors import ExportUnreadable
        from ledger.offline import check_file

        try:
            checked = check_file(path)
        except ExportUnreadable as problem:
            raise CommandError(str(problem), returncode=1) from problem
        for found in checked.findings:
            self.stdout.write(f"{'ok    ' if found.ok else 'BROKEN'}  {found.invariant}: {found.detail}")
        for no, root in checked.roots.items():
            compare = f"to be compared with root_of({no}) of the anchor contract"
            self.stdout.write(f"epoch {no}: root 0x{root.hex()}, {compare}")
        self.stdout.write(f"labels of the exporter, under no root: account codes, parties, asset; sha256 of their roll "
                          f"{checked.roll_hash}, to be compared with another export's of the same rows")  # fmt: skip
        under, broken = checked.rows - len(checked.unsealed), sum(not found.ok for found in checked.findings)
        loose = f", {len(checked.unsealed)} under none, from number {min(checked.unsealed)}" if checked.unsealed else ""
        self.stdout.write(f"{checked.rows} rows, {under} under the roots of {len(checked.roots)} epochs{loose}; "
                          f"{len(checked.findings)} looks, {broken} broken")  # fmt: skip
        if not all(found.ok for found in checked.findings):
            raise CommandError("The file is not what was sealed.", returncode=1)

    def rebuild_from_chain(self) -> None:
        """Read the chain from its first block, book everything again and compare; nothing is changed."""
        from ledger.rails.rebuild import rebuild

        if "ledger_chainmark" not in connection.introspection.table_names():
            raise CommandError("There are no books here yet; `manage.py up` or `manage.py demo` makes some.")
        findings = rebuild(now=clock.now())
        evm.close_all()
        for found in findings:
            self.stdout.write(f"{'ok    ' if found.ok else 'BROKEN'}  {found.invariant}: {found.detail}")
        if any(not found.ok for found in findings):
            raise CommandError("The books are not what the chain says.", returncode=1)

    def check_bundle(self, path: Path | None) -> None:
        """Check one public bundle as an outsider would."""
        from pricing.verify import verify_path

        if path is None:
            raise CommandError("Name the folder or .zip of a bundle: manage.py verify clearing PATH")
        try:
            report = verify_path(path)
        except (OSError, BadZipFile) as problem:
            raise CommandError(f"There is no bundle at {path}: {problem}.") from problem
        for check in report.checks:
            self.stdout.write(f"{'ok    ' if check.ok else 'BROKEN'}  {check.name}: {check.detail}")
        if not report.ok:
            raise CommandError("The bundle does not hold.", returncode=1)
        self.stdout.write(
            f"The bundle proves its result: welfare {report.welfare_micros} micro-USD, where no allocation that keeps "
            f"the rules reaches more than {report.bound_micros}; {report.awards} awards; {report.losers} losers, each "
            "with its reason."
        )
        self.stdout.write(
            f"{report.rejected_in_the_money} lines that no price can ration were left out in the money, at an "
            f"opportunity cost of {report.opportunity_cost_micros} micro-USD; windows that were held down for whole "
            f"units miss {report.missed_for_whole_units_micros} micro-USD."
        )

    def check_trail(self, path: Path | None) -> None:
        """Check an exported audit trail, line by line, without a database."""
        from marketplace.governance.offline import first_fault

        if path is None or not path.is_file():
            raise CommandError("Name the file of an exported trail: manage.py verify audit PATH")
        fault = first_fault(path)
        if fault:
            raise CommandError(f"The trail is broken: {fault}.", returncode=1)
        self.stdout.write("The trail is whole: every line follows from the one before it.")

    def check_payout(self, path: Path | None, bundle: Path | None, opening: Path | None) -> None:
        """Follow the proof of a payout from its awards to its transaction, without a database."""
        from marketplace.payout.offline import told, verify_file

        if path is None:
            raise CommandError("Name the file of a proof: manage.py verify payout PATH")
        try:
            report = verify_file(path, bundle=bundle, opening=opening)
        except (OSError, KeyError, BadZipFile) as problem:
            raise CommandError(f"A file is missing: {problem}.") from problem
        for line in told(report):
            self.stdout.write(line)
        if report.broken:
            raise CommandError("The proof does not hold.", returncode=1)

    def clear_again(self, path: Path) -> None:
        """Clear the sealed lines of a bundle that holds, and compare every byte."""
        from pricing.errors import ClearingError
        from pricing.replay import replay_bundle
        from pricing.verify import read_files

        try:
            differences = replay_bundle(read_files(path))
        except ClearingError as problem:
            raise CommandError(f"The sealed lines cannot be cleared again: {problem}", returncode=1) from problem
        for found in differences:
            self.stdout.write(f"BROKEN  {found.file} line {found.line}: published {found.published[:300]}")
            self.stdout.write(f"        cleared again: {found.replayed[:300]}")
        if differences:
            raise CommandError("The rules call for another result than the one that was published.", returncode=1)
        self.stdout.write("Cleared again from its sealed lines, the bundle is the same to the byte.")
