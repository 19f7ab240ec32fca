"""The PoB chain: exact in every backend, accepted when honest, refused by name when not."""

from dataclasses import replace

import numpy as np
import pytest

from pricing.errors import (
    FreivaldsRefused,
    LateRoot,
    MalformedProof,
    NonceRefused,
    PathRefused,
    ProofRefused,
    TranspositionRefused,
)
from pricing.proof import (
    PRESETS,
    Checker,
    FloatBackend,
    Preset,
    Prover,
    backend_named,
    digest,
    merkle_levels,
    merkle_paths,
    mix,
    nonce_rows,
    random_rows,
    root_from_path,
    step,
    weights_of,
)
from pricing.transcript import (
    ReferenceRow,
    Timeline,
    Transcript,
    Witness,
    check_timeline,
    class_of,
    commit_share,
    elapsed_ns,
    ops_per_second,
    seed_of,
    transcript_hash,
    verify_again,
)

SMALL = Preset("small", size=256, products=3, blocks=3, rows_opened=8, root_deadline_ms=1000)


def secret(*parts: object) -> bytes:
    return digest(*(str(part).encode() for part in parts))


def nonces_of(run: int, preset: Preset = SMALL) -> list[bytes]:
    return [secret("nonce", run, block) for block in range(preset.blocks)]


def prove(run: int, *, prover: Prover | None = None, preset: Preset = SMALL, advice: bool = True):
    """One session with a prover: its checker, nonces, commitments and openings."""
    seed, nonces = secret("seed", run), nonces_of(run, preset)
    prover = prover or Prover(preset=preset, seed=seed, backend=backend_named("float32"))
    commitments = [prover.commit_block(nonce) for nonce in nonces]
    checker = Checker(preset=preset, seed=seed, entropy=secret("entropy", run))
    openings = [prover.open_rows(block, checker.draw_rows(block), advice=advice) for block in range(preset.blocks)]
    return checker, nonces, commitments, openings


# --- arithmetic ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 256, 1024])
def test_float32_and_float64_agree_with_whole_numbers_bit_for_bit(size):
    weights = weights_of(secret("w"), size)
    rows = mix(None, nonce_rows(secret("n"), None, size))
    whole = step((rows.astype(np.int32) @ weights.astype(np.int32)).astype(np.int32)) if size < 1024 else None
    ends, products = [], []
    for name in ("float32", "float64"):
        backend = backend_named(name)
        backend.load(weights)
        ends.append(backend.chain(rows, 4))
        products.append(backend.product(rows))
        if whole is not None:
            assert np.array_equal(backend.chain(rows, 1), whole)

    assert np.array_equal(*ends)
    assert np.array_equal(*products)
    assert ends[0].min() == -32
    assert ends[0].max() == 31


def test_the_roots_of_both_backends_are_the_same_bytes():
    float32 = Prover(preset=SMALL, seed=secret("seed"), backend=backend_named("float32"))
    float64 = Prover(preset=SMALL, seed=secret("seed"), backend=backend_named("float64"))

    for nonce in nonces_of(0):
        assert float32.commit_block(nonce) == float64.commit_block(nonce)


def test_the_largest_partial_sum_is_exact_in_float32():
    extreme = np.full((2, 16384), -32, np.int8)
    column = np.full((16384, 1), -32, np.int8)

    product = extreme.astype(np.float32) @ column.astype(np.float32)

    assert product.tolist() == [[float(1 << 24)]] * 2
    with pytest.raises(MalformedProof, match="power of two"):
        replace(SMALL, size=32768)


def test_the_step_is_the_formula_and_not_a_homomorphism():
    y = np.arange(-(1 << 20), 1 << 20, 7, dtype=np.int32)
    plain = [(((int(cell) >> 5) ^ (int(cell) >> 11)) & 63) - 32 for cell in y[::1001]]

    assert step(y)[::1001].tolist() == plain
    assert not np.array_equal(step(y + y), step(y) + step(y))


@pytest.mark.parametrize("size", [32, 128, 1024])
def test_rows_of_the_generator_are_addressable(size):
    whole = random_rows(secret("key"), 0, size, size)

    assert np.array_equal(random_rows(secret("key"), 7, 19, size), whole[7:19])
    assert not np.array_equal(random_rows(secret("other"), 0, size, size), whole)
    assert whole.max() == 63


def test_a_path_leads_to_the_root_for_its_own_row_and_place_only():
    rows = weights_of(secret("m"), 64)
    levels = merkle_levels(rows)
    path = merkle_paths(levels, np.array([5]))[0]

    assert root_from_path(rows[5], 5, path) == levels[-1][0]
    assert root_from_path(rows[6], 5, path) != levels[-1][0]
    assert root_from_path(rows[5], 4, path) != levels[-1][0]


# --- honest --------------------------------------------------------------------------------------------------------


def test_thirty_honest_provers_of_thirty_are_accepted():
    for run in range(30):
        checker, *session = prove(run, advice=run % 3 != 0)  # every third in direct mode

        checker.check(*session)


def test_a_float64_prover_is_accepted_as_well():
    prover = Prover(preset=SMALL, seed=secret("seed", 0), backend=backend_named("float64"))
    checker, *session = prove(0, prover=prover)

    checker.check(*session)


def test_the_check_does_not_depend_on_which_secret_vectors_are_drawn():
    _, *session = prove(1)

    for fresh in range(5):
        Checker(preset=SMALL, seed=secret("seed", 1), entropy=secret("fresh", fresh)).check(*session)


# --- cheats --------------------------------------------------------------------------------------------------------


class SkipRows(Prover):
    """Computes three quarters of the rows and invents the rest; it answers with true advice."""

    def commit_block(self, nonce):
        computed, self.backend = self.backend, SkippingBackend(self.backend)
        try:
            return super().commit_block(nonce)
        finally:
            self.backend = computed


class SkippingBackend:
    name = "skipping"

    def __init__(self, honest):
        self.honest = honest

    def chain(self, rows, products):
        ends = np.empty_like(rows)
        done = 3 * len(rows) // 4
        ends[:done] = self.honest.chain(rows[:done], products)
        ends[done:] = random_rows(secret("invented"), 0, len(rows) - done, len(rows)).view(np.int8) - 32
        return ends


class RoundingBackend(FloatBackend):
    """Keeps eight significant bits of each product, as a bf16 accumulator would."""

    def __init__(self):
        super().__init__("bfloat16", np.float32)

    def product(self, rows):
        bits = super().product(rows).astype(np.float32).view(np.uint32)
        return (bits & np.uint32(0xFFFF0000)).view(np.float32).astype(np.int32)

    def chain(self, rows, products):
        for _ in range(products):
            rows = step(self.product(rows))
        return rows


class NoTranspose(Prover):
    """Starts each block from its own last rows instead of other machines' columns, and commits to them as columns."""

    def turn(self, end):
        return end

    def turned_rows(self, block, rows):
        return self._ends[block][rows]


class StaleNonce(Prover):
    """Worked ahead on nonces of its own and claims to have answered the fresh ones."""

    def commit_block(self, nonce):
        stale = digest(b"stale", nonce[:1])
        return replace(super().commit_block(stale), nonce=nonce)


def cheating(kind, run, **changes):
    settings = {"preset": SMALL, "seed": secret("seed", run), "backend": backend_named("float32")} | changes
    return prove(run, prover=kind(**settings))


def test_skipped_rows_are_caught_as_theory_says():
    caught = 0
    for run in range(25):
        checker, *session = cheating(SkipRows, run)
        try:
            checker.check(*session)
        except (PathRefused, FreivaldsRefused):
            caught += 1

    assert caught >= 24  # 1 - 0.75^24 is 0.999 each


def test_a_lower_precision_is_caught():
    checker, *session = cheating(Prover, 2, backend=RoundingBackend())

    with pytest.raises(FreivaldsRefused):
        checker.check(*session)


@pytest.mark.parametrize("run", range(5))
def test_a_skipped_transposition_is_caught(run):
    checker, *session = cheating(NoTranspose, run)

    with pytest.raises(TranspositionRefused) as refusal:
        checker.check(*session)
    assert refusal.value.code == "proof_transposition"


def test_work_on_a_stale_nonce_is_caught_whether_it_says_so_or_not():
    checker, nonces, commitments, openings = cheating(StaleNonce, 3)

    with pytest.raises(FreivaldsRefused):
        checker.check(nonces, commitments, openings)
    with pytest.raises(PathRefused):
        checker.check(nonces, commitments, [replace(opening, advice=None) for opening in openings])
    with pytest.raises(NonceRefused, match="another nonce"):
        checker.check(nonces, [replace(commitments[0], nonce=secret("stale")), *commitments[1:]], openings)
    with pytest.raises(NonceRefused, match="used once"):
        checker.check([nonces[0]] * 3, commitments, openings)


def test_a_replayed_session_is_caught():
    _, _, commitments, openings = prove(4)
    checker, nonces, *_ = prove(5)

    with pytest.raises(NonceRefused):
        checker.check(nonces, commitments, openings)
    relabelled = [replace(item, nonce=nonce) for item, nonce in zip(commitments, nonces, strict=True)]
    with pytest.raises(FreivaldsRefused):
        checker.check(nonces, relabelled, openings)


def test_work_with_other_weights_is_caught():
    checker, *session = cheating(Prover, 6, seed=secret("a cheaper seed"))

    with pytest.raises(FreivaldsRefused):
        checker.check(*session)


@pytest.mark.parametrize(("field", "block"), [("end_paths", 0), ("end_paths", 2), ("previous_paths", 1)])
def test_a_forged_path_is_caught(field, block):
    checker, nonces, commitments, openings = prove(7)
    paths = getattr(openings[block], field).copy()
    paths[3, 2, 0] ^= 1
    forged = [*openings[:block], replace(openings[block], **{field: paths}), *openings[block + 1 :]]

    with pytest.raises(PathRefused):
        checker.check(nonces, commitments, forged)
    checker.check(nonces, commitments, openings)


def test_one_wrong_product_cell_is_caught():
    checker, nonces, commitments, openings = prove(8)
    advice = openings[1].advice.copy()
    advice[2, 4, 100] += 1

    with pytest.raises(FreivaldsRefused):
        checker.check(nonces, commitments, [openings[0], replace(openings[1], advice=advice), openings[2]])


def test_a_wrong_cell_that_no_step_shows_is_caught_whichever_vectors_are_drawn():
    tiny = Preset("tiny", size=32, products=1, blocks=1, rows_opened=2, root_deadline_ms=1000)
    _, nonces, commitments, openings = prove(14, preset=tiny)
    advice = openings[0].advice.copy()
    advice[0, 0, 5] ^= 1  # the step looks at bits from the fifth on: every path still leads to its root
    forged = [replace(openings[0], advice=advice)]

    for draw in range(1500):  # one vector alone would miss one in 256
        checker = Checker(preset=tiny, seed=secret("seed", 14), entropy=secret("draw", draw))
        with pytest.raises(FreivaldsRefused):
            checker.check(nonces, commitments, forged)
    checker.check(nonces, commitments, openings)


def test_a_seed_is_of_its_binding_and_of_every_share():
    shares = [secret("share", number) for number in range(3)]
    seed = seed_of(b"one class", shares, [commit_share(each) for each in shares])

    assert seed != seed_of(b"another", shares, [commit_share(each) for each in shares])
    for place in range(3):
        other = [*shares[:place], secret("share", "other"), *shares[place + 1 :]]
        assert seed != seed_of(b"one class", other, [commit_share(each) for each in other])
        with pytest.raises(NonceRefused):
            seed_of(b"one class", other, [commit_share(each) for each in shares])


def test_a_checker_takes_no_entropy_that_could_be_guessed():
    with pytest.raises(MalformedProof) as refusal:
        Checker(preset=SMALL, seed=secret("seed", 1), entropy=bytes(31))
    assert refusal.value.facts == {"length": 31}

    Checker(preset=SMALL, seed=secret("seed", 1), entropy=bytes(32))


def test_a_row_of_the_matrix_before_cannot_be_changed():
    checker, nonces, commitments, openings = prove(9)
    previous = openings[1].previous.copy()
    previous[0, 0] ^= 1

    with pytest.raises(PathRefused) as refusal:
        checker.check(nonces, commitments, [openings[0], replace(openings[1], previous=previous), openings[2]])
    assert refusal.value.facts["tree"] == "columns"


def test_truncated_advice_is_malformed():
    checker, nonces, commitments, openings = prove(10)

    for advice in (openings[0].advice[:-1], openings[0].advice[:, :-1], openings[0].advice.astype(np.int64)):
        with pytest.raises(MalformedProof) as refusal:
            checker.check(nonces, commitments, [replace(openings[0], advice=advice), *openings[1:]])
        assert refusal.value.facts["field"] == "advice"


def test_malformed_parts_are_refused_before_any_arithmetic():
    checker, nonces, commitments, openings = prove(11)
    first, second, third = openings
    too_large = second.advice.copy()
    too_large[0, 0, 0] = 1024 * 256 + 1
    outside = second.previous.copy()
    outside[0, 0] = 32
    broken = [
        [first, second],
        [first, replace(second, previous=None), third],
        [replace(first, previous=second.previous, previous_paths=second.previous_paths), second, third],
        [first, replace(second, advice=too_large), third],
        [first, replace(second, previous=outside), third],
        [replace(first, rows=np.zeros(8, np.int64)), second, third],
        [replace(first, rows=first.rows + 256), second, third],
        [replace(first, end_paths=first.end_paths[:, :-1]), second, third],
    ]

    for parts in broken:
        with pytest.raises(MalformedProof):
            checker.check(nonces, commitments, parts)
    with pytest.raises(MalformedProof):
        checker.check(nonces, [replace(commitments[0], rows_root=b"short"), *commitments[1:]], openings)
    checker.check(nonces, commitments, openings)


def test_a_prover_opens_only_what_it_committed():
    prover = Prover(preset=SMALL, seed=secret("seed"), backend=backend_named("float32"))
    prover.commit_block(secret("n"))

    assert prover.open_rows(0, np.array([255])).rows.tolist() == [255]
    with pytest.raises(MalformedProof):
        prover.open_rows(1, np.array([0]))
    with pytest.raises(MalformedProof):
        prover.open_rows(0, np.array([256]))


# --- time, score, class --------------------------------------------------------------------------------------------


def timeline(*stamps_ms: int) -> Timeline:
    stamps = [stamp * 1_000_000 for stamp in stamps_ms]
    return Timeline(nonce_ns=tuple(stamps[::2]), root_ns=tuple(stamps[1::2]))


def test_a_late_root_is_refused_and_one_in_time_is_not():
    check_timeline(SMALL, timeline(0, 1000, 1001, 1500, 1501, 2000))

    with pytest.raises(LateRoot) as refusal:
        check_timeline(SMALL, timeline(0, 400, 401, 1402, 1501, 2000))
    assert refusal.value.facts["block"] == 1


@pytest.mark.parametrize("stamps", [(0, 10, 9, 20, 21, 30), (0, 10, 11, 11, 21, 30), (0, 10, 11, 12)])
def test_a_nonce_never_goes_out_before_the_root_before_it(stamps):
    with pytest.raises(MalformedProof):
        check_timeline(SMALL, timeline(*stamps))


def test_the_score_is_the_operations_over_the_median_time():
    spans = [timeline(0, 1, 2, 3, 4, 20), timeline(7, 8, 9, 10, 11, 17), timeline(0, 1, 2, 3, 4, 500)]

    assert elapsed_ns(spans) == 20_000_000
    assert elapsed_ns(spans[:2]) == 15_000_000
    assert ops_per_second(SMALL, spans) == 2 * 256**3 * 3 * 3 * 50


ROWS = (
    ReferenceRow("small", 100),
    ReferenceRow("large", 1000, memory_bytes=80, memory_bytes_per_second=10),
    ReferenceRow("middle", 500),
)


@pytest.mark.parametrize(
    ("figures", "resource_class"),
    [
        ((84, 0, 0), None), ((85, 0, 0), "small"), ((425, 0, 0), "middle"), ((850, 72, 8), "large"),
        ((850, 71, 8), "middle"), ((850, 72, 7), "middle"), ((10_000, 0, 0), "middle"),
    ],
)  # fmt: skip
def test_a_class_is_the_highest_whose_three_thresholds_hold(figures, resource_class):
    ops, memory, bandwidth = figures

    found = class_of(ROWS, ops_per_second=ops, memory_bytes=memory, memory_bytes_per_second=bandwidth)

    assert found == resource_class


# --- transcript ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transcript() -> Transcript:
    """A session with two witnesses."""
    shares = [secret("share", number) for number in range(2)]
    commitments = [commit_share(share) for share in shares]
    seed = seed_of(b"binding", shares, commitments)
    prover = Prover(preset=SMALL, seed=seed, backend=backend_named("float32"))
    nonces = nonces_of(77)
    roots = [prover.commit_block(nonce) for nonce in nonces]
    witnesses = []
    for number in range(2):
        checker = Checker(preset=SMALL, seed=seed, entropy=secret("entropy", number))
        openings = tuple(prover.open_rows(block, checker.draw_rows(block)) for block in range(SMALL.blocks))
        stamps = timeline(0, 10, 11, 20, 21, 30)
        witnesses.append(Witness(f"v{number}", commitments[number], shares[number], stamps, openings))
    return Transcript(SMALL, "float32", b"binding", tuple(nonces), tuple(roots), tuple(witnesses))


@pytest.mark.parametrize("light", [False, True])
def test_a_stored_transcript_can_be_checked_again_by_anybody(transcript, light):
    data = (transcript.light() if light else transcript).to_bytes()

    score = verify_again(data, entropy=secret("anybody"))

    assert Transcript.from_bytes(data).to_bytes() == data
    assert score.ops_per_second == SMALL.operations * 1000 // 30
    assert score.accepted == 2
    assert score.transcript_hash == transcript_hash(transcript.light().to_bytes())


def test_the_light_form_is_a_fraction_of_the_whole(transcript):
    assert len(transcript.light().to_bytes()) * 5 < len(transcript.to_bytes())


def tampered(transcript, **changes):
    return replace(transcript, witnesses=(replace(transcript.witnesses[0], **changes), transcript.witnesses[1]))


def test_a_changed_transcript_is_refused_by_name(transcript):
    light = transcript.light()
    first = light.witnesses[0]
    wrong_rows = replace(first.openings[1], rows=first.openings[2].rows)
    nonces = (light.nonces[1], light.nonces[0], light.nonces[2])
    renamed = tuple(replace(item, nonce=nonce) for item, nonce in zip(light.commitments, nonces, strict=True))
    forged = [
        (tampered(light, share=secret("other")), NonceRefused),
        (replace(light, binding=b"another class"), PathRefused),
        (tampered(light, timeline=timeline(0, 2000, 2001, 2002, 2003, 2004)), LateRoot),
        (tampered(light, openings=(first.openings[0], wrong_rows, first.openings[2])), PathRefused),
        (replace(light, nonces=nonces, commitments=renamed), PathRefused),
        (replace(light, witnesses=()), MalformedProof),
        (replace(light, witnesses=tuple(replace(item, openings=()) for item in light.witnesses)), MalformedProof),
    ]

    for item, error in forged:
        with pytest.raises(error):
            verify_again(item.to_bytes(), entropy=secret("anybody"))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff", b'{"suite":"pob-chain/1"}'])
def test_bytes_that_are_no_transcript_are_malformed(data):
    with pytest.raises(MalformedProof):
        Transcript.from_bytes(data)


def test_only_the_canonical_bytes_of_a_transcript_are_read(transcript):
    data = transcript.light().to_bytes()

    assert Transcript.from_bytes(data)
    for other in (data + b" ", data.replace(b'"float32"', b'"float32" '), data.replace(b"pob-chain/1", b"pob-chain/0")):
        with pytest.raises(MalformedProof):
            Transcript.from_bytes(other)


def test_every_refusal_of_a_proof_is_one_kind_with_a_code_of_its_own():
    kinds = ProofRefused.__subclasses__()

    assert {MalformedProof, PathRefused, FreivaldsRefused, TranspositionRefused, NonceRefused, LateRoot} < set(kinds)
    assert len({kind.code for kind in kinds}) == len(kinds)


def test_the_presets_carry_enough_rows():
    assert {"demo", "recheck", "short", "full"} < set(PRESETS)
    for name in ("recheck", "short", "full"):
        assert PRESETS[name].rows_opened * PRESETS[name].blocks >= 256
