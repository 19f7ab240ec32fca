"""Random falsifications: whoever changes anything in a bundle and seals it again is refused.

Free are only numbers that say nothing of the result: the name of the window, and duals that nobody pays. Any duals
bound the welfare, so another choice of them is another proof, and a true one where it proves the same bound.
"""

import copy
import hashlib
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pricing.bundle import public_bundle
from pricing.clearing import clear
from pricing.lines import canonical_json
from pricing.verify import verify_bundle
from tests.pricing.bundles import Forger, everything, scale_bundle, write_bundle

# Seven times a hundred falsifications, the same in every run; the slow tests at the end try new ones each time.
tampering = settings(deadline=None, derandomize=True, max_examples=100, suppress_health_check=list(HealthCheck))
at_length = settings(tampering, derandomize=False, database=None, max_examples=1_000, print_blob=True)


@pytest.fixture(scope="module", params=["by hand", "cleared"])
def honest(request):
    case = everything()
    return write_bundle(*case.parts) if request.param == "by hand" else public_bundle(clear(case.book), window="w1")


@pytest.fixture(scope="module")
def balanced():
    return scale_bundle(60)


def leaves(value, path=()):
    """The path of every number, text, flag and null, of every empty list, and of every list that holds something."""
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], (*path, key))
    else:
        if isinstance(value, list):
            for place, one in enumerate(value):
                yield from leaves(one, (*path, place))
        yield path


def at(value, path):
    for step in path:
        value = value[step]
    return value


def is_free(path):
    if path[0] == "manifest.json":
        return path[1:] == ("window",) or "rho_relaxed_micros" in path or "is_held" in path
    return path[0] == "prices.jsonl" and ("relaxed_micros" in path or "dual_micros" in path)


@st.composite
def changed(draw, old):
    """Something else of the same kind, or of another."""
    if type(old) is int:
        near = st.sampled_from([-100, -1, 1, 100]).map(lambda step: old + step)
        new = draw(near | st.integers(0, 10**13) | st.sampled_from([0, -1, None, True, "1", 1.5, 1 << 60]))
    elif isinstance(old, list):
        new = draw(st.sampled_from([old[1:], [*old, *old[:1]], old[::-1], [0], None]))
    elif isinstance(old, str):
        new = draw(st.sampled_from([old + "x", old[1:], "", "b1", "d1", "window", "divisible", None, 1, "0" * 16]))
    else:
        new = draw(st.sampled_from([0, 1, 100, "b1", True, False, [], None]))
    return new


def _tables(forger):
    return {"manifest.json": forger.manifest, **forger.rows}


def _refused_or_same(files, text):
    report = verify_bundle(text)
    return not report.ok or text == files


@tampering
@given(data=st.data())
def test_no_field_can_be_changed(honest, data):
    forger = Forger(honest)
    tables = _tables(forger)
    file = data.draw(st.sampled_from([name for name in tables if tables[name]]))
    path = (file, *data.draw(st.sampled_from(list(leaves(tables[file])))))
    old = at(tables, path)
    new = data.draw(changed(old))
    at(tables, path[:-1])[path[-1]] = new

    files = forger.sealed() if file != "manifest.json" else _with_manifest(honest, forger.manifest)

    assert is_free(path) or _refused_or_same(honest, files), (path, old, new)


def _with_manifest(files, manifest):
    return {**files, "manifest.json": canonical_json(manifest) + b"\n"}


@tampering
@given(seed=st.integers(0, 1 << 32))
def test_no_number_can_be_changed_a_little(balanced, seed):
    """The nearest lies: one unit, one tick, one slot or one micro-USD aside, in a book with nothing but prices."""
    rng = random.Random(seed)
    forger = Forger(balanced)
    tables = _tables(forger)
    numbers = {name: [path for path in leaves(tables[name]) if type(at(tables[name], path)) is int] for name in tables}
    file = rng.choice([name for name in numbers if numbers[name]])
    path = (file, *rng.choice(numbers[file]))
    old = at(tables, path)
    at(tables, path[:-1])[path[-1]] = old + rng.choice([-100, -1, 1, 100])

    files = forger.sealed() if file != "manifest.json" else _with_manifest(balanced, forger.manifest)

    assert is_free(path) or _refused_or_same(balanced, files), (path, old)


@tampering
@given(data=st.data())
def test_no_row_can_be_taken_out_repeated_moved_or_put_in_from_elsewhere(honest, data):
    forger = Forger(honest)
    file = data.draw(st.sampled_from(sorted(forger.rows)))
    rows = forger.rows[file]
    one, other = (data.draw(st.integers(0, len(rows) - 1)) for _ in range(2))
    match data.draw(st.sampled_from(["drop", "repeat", "swap", "copy", "field"])):
        case "drop":
            del rows[one]
        case "repeat":
            rows.insert(one, copy.deepcopy(rows[one]))
        case "swap":
            rows[one], rows[other] = rows[other], rows[one]
        case "copy":
            rows[one] = copy.deepcopy(rows[other])
        case "field":
            key = data.draw(st.sampled_from(sorted(rows[one])))
            rows[one][key + "_"] = rows[one].pop(key)

    assert _refused_or_same(honest, forger.sealed())


@tampering
@given(data=st.data())
def test_whatever_the_bytes_it_is_refused_and_never_a_crash(honest, data):
    """Bytes cut, changed or put in at random, with the hash of the file made to agree."""
    file = data.draw(st.sampled_from(sorted(honest)))
    text = honest[file]
    place = data.draw(st.integers(0, len(text) - 1))
    middle = data.draw(st.binary(max_size=3) | st.sampled_from([b"\n", b"\r\n", b" ", b"0", b"9", b"-", b"e9"]))
    changed_text = text[:place] + middle + text[place + data.draw(st.integers(0, 3)):]
    files = {**honest, file: changed_text}
    assert _refused_or_same(honest, files) or file == "manifest.json"
    if file == "manifest.json":
        return
    forger = Forger(honest)
    forger.manifest["files"][file] = hashlib.sha256(changed_text).hexdigest()
    forger.manifest["counts"] = {
        name: files[f"{name}.jsonl"].count(b"\n") for name in ("demands", "bids", "awards", "reasons")}

    files = _with_manifest(files, forger.manifest)

    assert file == "prices.jsonl" or _refused_or_same(honest, files), (file, place, middle)


def over_again(test, **given_by):
    """The same test with other falsifications in every run, ten times as many."""
    return pytest.mark.slow(at_length(given(**given_by)(test.hypothesis.inner_test)))


test_no_field_can_be_changed_at_length = over_again(test_no_field_can_be_changed, data=st.data())
test_no_number_can_be_changed_a_little_at_length = over_again(
    test_no_number_can_be_changed_a_little, seed=st.integers(0, 1 << 32))
test_no_row_can_be_moved_at_length = over_again(
    test_no_row_can_be_taken_out_repeated_moved_or_put_in_from_elsewhere, data=st.data())
test_whatever_the_bytes_at_length = over_again(
    test_whatever_the_bytes_it_is_refused_and_never_a_crash, data=st.data())


def test_the_free_fields_are_free_only_as_far_as_the_proof_stands():
    forger = Forger(write_bundle(*everything().parts))
    forger.cell("b3")["dual_micros"][0] += 100  # below its ask of 5,600: the same bound, the same proof
    assert verify_bundle(forger.sealed()).ok

    forger.cell("b3")["dual_micros"][0] += 600  # above it: b3 would rather sell

    assert not verify_bundle(forger.sealed()).ok


@pytest.mark.parametrize("change", [-100, -1, 1, 100])
def test_where_something_traded_the_dual_is_the_price_also_where_another_would_bound_as_well(change):
    """In these slots no bound moves with the dual: that price and dual are one is all that says so."""
    for slot in (2, 3):
        forger = Forger(write_bundle(*everything().parts))
        row = next(row for row in forger.rows["prices.jsonl"] if len(row["price_micros"]) > slot
                   and row["price_micros"][slot] is not None)  # fmt: skip
        row["dual_micros"][slot] += change

        broken = [check.detail for check in verify_bundle(forger.sealed()).checks if not check.ok]

        assert broken == [f"{row['signature']} slot {slot}: the price is off the tick or not the dual"]
