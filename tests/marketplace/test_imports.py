"""What universities already run: one file per format, rows that cannot be read told, and a week that could be sold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from marketplace.environment import CHECKOUT
from marketplace.errors import BadInput, BadLines
from marketplace.supply.imports import HOURS_PER_WEEK, Imported, Span, hour_words, propose, read_export

FOLDER = CHECKOUT / "fixtures" / "imports"
SLURM = (FOLDER / "slurm.txt").read_text(encoding="utf-8")


def export(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def test_a_slurm_export_gives_busy_spans_by_kind_and_names_what_it_skipped():
    found = read_export(SLURM, kind="slurm", time_zone="Europe/Berlin")

    assert found.resources() == ["cpu (cpu)", "gpu (gpu)", "gpu:h100"]
    first = found.spans[0]
    assert (first.resource, first.units, first.starts_at) == ("gpu:h100", 4, datetime(2026, 11, 2, 7, tzinfo=UTC))
    assert found.rows == 8  # the step is part of its job
    assert [(row, why.split()[0]) for row, why in found.skipped] == [(8, "still"), (9, "ends"), (10, "4")]
    assert found.unknown_columns == ["JobName", "ExitCode"]


def test_a_blazar_export_gives_fixed_busy_intervals_in_utc():
    found = read_export(export("blazar.json"), kind="blazar")

    assert found.spans == [
        Span("physical:host", 4, datetime(2026, 11, 2, 8, tzinfo=UTC), datetime(2026, 11, 6, 18, tzinfo=UTC)),
        Span("virtual:instance", 6, datetime(2026, 11, 14, 9, tzinfo=UTC), datetime(2026, 11, 14, 17, tzinfo=UTC)),
    ]
    assert (found.rows, [row for row, _ in found.skipped]) == (4, [4])


def test_a_coldfront_export_gives_the_share_that_researchers_keep():
    found = read_export(export("coldfront.json"), kind="coldfront")

    assert found.reserved == {"H100 partition": 24}  # what has expired keeps nothing
    assert [row for row, _ in found.skipped] == [4]
    proposal = propose(found, resource="H100 partition", capacity_units=64, carve_out_ppm=0)
    assert proposal.spans == [(0, HOURS_PER_WEEK, 40)]


def test_a_waldur_export_gives_unit_hours_by_month():
    found = read_export(export("waldur.json"), kind="waldur")

    assert found.unit_hours == {("HPC: gpu", "2026-10"): 2_000}
    assert [row for row, _ in found.skipped] == [3]
    assert propose(found, resource="HPC: gpu", capacity_units=8, carve_out_ppm=0).busy_unit_hours == 2_000


def test_idle_hours_less_the_carve_out_are_proposed_and_never_more():
    found = read_export(SLURM, kind="slurm", time_zone="Europe/Berlin")

    proposal = propose(found, resource="gpu:h100", capacity_units=16, carve_out_ppm=500_000)

    units = [0] * HOURS_PER_WEEK
    for start, end, free in proposal.spans:
        units[start:end] = [free] * (end - start)
    assert proposal.kept_units == 8
    assert (units[6], units[7], units[17], units[19], units[29], units[30]) == (8, 4, 0, 0, 0, 8)
    assert proposal.busy_unit_hours == 4 * 12 + 8 * 12
    assert max(units) + proposal.kept_units <= 16
    assert proposal.sellable_unit_hours == sum(units)
    assert hour_words(7) == "Mon 07:00"


@pytest.mark.parametrize(("kept", "units"), [(0, 3), (333_333, 2), (333_334, 1), (10**6, 0)])
def test_a_carve_out_is_rounded_up(kept, units):
    found = Imported("slurm", reserved={"gpu": 0})

    assert propose(found, resource="gpu", capacity_units=3, carve_out_ppm=kept).spans == (
        [(0, HOURS_PER_WEEK, units)] if units else []
    )


def test_a_day_on_which_clocks_change_is_as_long_as_it_was():
    def hours_of(day: str, after: str) -> float:
        row = f"1|{day}T00:00:00|{after}T00:00:00|gres/gpu=1|gpu|COMPLETED|a"
        header = "JobID|Start|End|AllocTRES|Partition|State|Account"
        (span,) = read_export(f"{header}\n{row}", kind="slurm", time_zone="Europe/Berlin").spans
        return (span.ends_at - span.starts_at) / timedelta(hours=1)

    assert (hours_of("2026-03-29", "2026-03-30"), hours_of("2026-10-25", "2026-10-26")) == (23, 25)


def test_peaks_are_of_units_at_once_and_a_span_over_a_week_touches_every_hour():
    monday = datetime(2026, 11, 2, tzinfo=UTC)
    hour = timedelta(hours=1)
    inner = Span("g", 1, monday + hour, monday + 2 * hour)
    both = Imported("x", spans=[Span("g", 2, monday, monday + 3 * hour), inner])
    weeks = Imported("x", spans=[Span("g", 1, monday, monday + 400 * hour)])

    assert propose(both, resource="g", capacity_units=4, carve_out_ppm=0).spans == [
        (0, 1, 2), (1, 2, 1), (2, 3, 2), (3, HOURS_PER_WEEK, 4)
    ]  # fmt: skip
    assert propose(weeks, resource="g", capacity_units=4, carve_out_ppm=0).spans == [(0, HOURS_PER_WEEK, 3)]
    assert propose(weeks, resource="g", capacity_units=4, carve_out_ppm=0).weeks == 3


@pytest.mark.parametrize(("text", "kind", "zone", "error"), [
    (SLURM, "slurm", "", BadInput), (SLURM, "slurm", "Mars/Olympus", BadInput), (SLURM, "pbs", "", BadInput),
    ("JobID|Start", "slurm", "UTC", BadLines), ("", "slurm", "UTC", BadLines), ("{", "blazar", "", BadLines),
    ("[1]", "blazar", "", BadLines), ('{"leases": 3}', "blazar", "", BadLines), ("{}", "coldfront", "", BadLines),
    ("[" * 10_000, "waldur", "", BadLines),
])  # fmt: skip
def test_a_file_that_is_not_of_its_format_is_refused(text, kind, zone, error):
    with pytest.raises(error):
        read_export(text, kind=kind, time_zone=zone)

    assert read_export(SLURM, kind="slurm", time_zone="UTC").spans


@pytest.mark.parametrize(("change", "name"), [
    ({"capacity_units": 0}, "capacity_units"), ({"capacity_units": 1.5}, "capacity_units"),
    ({"carve_out_ppm": -1}, "carve_out"), ({"carve_out_ppm": 10**6 + 1}, "carve_out"),
    ({"resource": "tape"}, "resource"),
])  # fmt: skip
def test_a_proposal_of_what_cannot_be_is_refused(change, name):
    found = read_export(SLURM, kind="slurm", time_zone="UTC")

    with pytest.raises(BadInput) as refusal:
        propose(found, **{"resource": "gpu:h100", "capacity_units": 8, "carve_out_ppm": 0} | change)
    assert refusal.value.facts["field"] == name


@pytest.mark.slow
def test_a_million_rows_are_read_and_proposed_in_a_minute():
    import time

    header, row = SLURM.splitlines()[0], SLURM.splitlines()[1]
    text = "\n".join([header, *[row.replace("41200", str(n)) for n in range(1_000_000)]])
    began = time.monotonic()
    found = read_export(text, kind="slurm", time_zone="Europe/Berlin")
    propose(found, resource="gpu:h100", capacity_units=64, carve_out_ppm=0)
    seconds = time.monotonic() - began

    print(f"{len(found.spans):,} rows in {seconds:.1f} s")
    assert len(found.spans) == 1_000_000
    assert seconds < 60
