"""The ladder: whoever checks chooses the chain from a pilot that it timed itself."""

import pytest

from pricing.errors import MalformedProof
from pricing.presets import ADVICE_BYTES_MAX, PILOT, TARGET_SECONDS, choose, opens_directly, sized_for
from pricing.proof import PRESETS


def pilot_ns(gops: float) -> int:
    """What a machine of so many GOPS takes for the pilot."""
    return round(PILOT.operations / gops)


@pytest.mark.parametrize(
    ("gops", "sizes"),
    [
        (125, {"demo": 1024, "recheck": 2048, "short": 2048, "full": 2048}),  # float32 on one core
        (700, {"demo": 1024, "recheck": 4096, "short": 4096, "full": 4096}),  # int8 on one core
        (10_000, {"demo": 1024, "recheck": 8192, "short": 8192, "full": 8192}),  # 16 cores, int8
        (1_400_000, {"demo": 1024, "recheck": 16384, "short": 16384, "full": 16384}),  # a data-centre card
    ],
)
def test_the_row_is_the_largest_that_the_pilot_s_rate_carries_in_time(gops, sizes):
    for purpose, size in sizes.items():
        preset = choose(purpose, pilot_ns=pilot_ns(gops))
        assert preset.size == size, purpose
        assert preset.operations / (gops * 1e9) <= 1.25 * TARGET_SECONDS[purpose]


def test_a_machine_slower_than_every_row_gets_the_smallest():
    assert choose("full", pilot_ns=pilot_ns(1)) == PRESETS["full"]


def test_a_chain_is_sized_to_the_memory_that_a_class_asks_for():
    full = choose("full", pilot_ns=pilot_ns(125), memory_bytes=4 << 30)

    held = full.blocks * full.size**2
    assert (4 << 30) * 90 // 100 < held < (4 << 30) * 96 // 100
    assert full.blocks * full.rows_opened >= 256
    assert full.products == 1
    assert sized_for(PRESETS["full-16384"], 70 << 30) == PRESETS["full-16384"]  # its own blocks hold as much
    assert sized_for(PRESETS["full"], 0) == PRESETS["full"]


def test_every_row_of_a_baseline_opens_256_rows_or_more():
    for name, preset in PRESETS.items():
        if name.split("-")[0] in ("recheck", "short", "full"):
            assert preset.blocks * preset.rows_opened >= 256, name


def test_rows_are_recomputed_where_that_is_cheap_or_advice_would_be_too_large():
    full, gpu = PRESETS["full"], PRESETS["full-16384"]

    assert opens_directly(full, prover_ops_per_second=100, checker_ops_per_second=100)  # q / n = 0.49 %
    assert not opens_directly(full, prover_ops_per_second=600, checker_ops_per_second=100)
    assert 4 * gpu.products * gpu.rows_opened * gpu.size * gpu.blocks > ADVICE_BYTES_MAX
    assert opens_directly(gpu, prover_ops_per_second=10**6, checker_ops_per_second=1)


def test_no_purpose_no_pilot_and_no_rate_are_malformed():
    with pytest.raises(MalformedProof):
        choose("grand", pilot_ns=1)
    with pytest.raises(MalformedProof):
        choose("full", pilot_ns=0)
    with pytest.raises(MalformedProof):
        opens_directly(PRESETS["full"], prover_ops_per_second=0, checker_ops_per_second=1)
