"""Clearing the sealed lines of a bundle again: the same bytes, or the first line that differs."""

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from pricing.allocation import Cap
from pricing.bundle import public_bundle
from pricing.clearing import clear
from pricing.lines import Rules
from pricing.replay import book_of, replay_bundle
from pricing.verify import verify_bundle
from tests.pricing.allocations import Trade, case
from tests.pricing.bundles import everything, write_bundle
from tests.pricing.drawn import by_seed, small_book, tied_book
from tests.pricing.lines import bid, book, demand


def published(one):
    return public_bundle(clear(one), window="2027-W03")


@pytest.mark.parametrize("seed", range(12))
def test_an_honest_bundle_is_the_same_to_the_byte(seed):
    files = published(small_book(by_seed(seed), rules=True))

    assert replay_bundle(files) == ()


@pytest.mark.parametrize("seed", [503, 2131])
def test_so_is_one_whose_windows_were_held_down_for_whole_units(seed):
    assert replay_bundle(published(tied_book(by_seed(seed)))) == ()


def test_the_sealed_book_of_a_bundle_is_the_one_that_was_cleared():
    one = everything().book

    assert book_of(published(one)).input_hash == one.input_hash


# What the verifier lets pass, because nothing but the rules themselves says that it is not the result.


def a_price_pressed_down_on_windows():
    """The seller of the only unit gets its ask, though another window would pay 4,900."""
    lines = bid("b", 100, 1), demand("w1", 5_000, 1, kind="window"), demand("w2", 4_900, 1, kind="window")
    return case(book(*lines, slots=1), Trade("w1", "b", 0, 1), lam=100, relaxed_micros=np.array([[4_900]]))


def a_block_that_keeps_the_unit_of_a_window():
    lines = bid("b", 100, 1), demand("k", 200, 1, kind="block"), demand("w", 990_000, 1, kind="window")
    return case(book(*lines, slots=1), Trade("k", "b", 0, 1), lam=100, relaxed_micros=np.array([[990_000]]))


def a_cap_that_closes_the_market():
    lines = *(bid(f"b{n}", 100, 10) for n in range(3)), demand("d", 900_000, 5)
    one = book(*lines, slots=1, rules=Rules(concentration_ppm=500_000))
    sellers = [one.parents.index(f"seller-b{n}") for n in range(3)]
    caps = tuple(Cap(parent, ("H100", "DE", 1), 0, 10**6, 10**6) for parent in sellers)
    return case(one, lam=900_000, caps=caps, cap_of_bid=np.arange(3))


UNFAIR = (a_price_pressed_down_on_windows, a_block_that_keeps_the_unit_of_a_window, a_cap_that_closes_the_market)


@pytest.mark.parametrize("build", UNFAIR)
def test_a_result_that_the_rules_do_not_call_for_is_told_line_by_line(build):
    unfair = build()
    files = write_bundle(*unfair.parts)

    differences = replay_bundle(files)

    assert verify_bundle(files).ok
    assert {"manifest.json", "prices.jsonl"} <= {found.file for found in differences}
    assert all(found.published != found.replayed for found in differences)


def test_the_command_says_that_a_bundle_is_the_same_to_the_byte(tmp_path, capsys):
    for name, text in published(everything().book).items():
        (tmp_path / name).write_bytes(text)

    call_command("verify", "clearing", str(tmp_path), replay=True)

    assert "the same to the byte" in capsys.readouterr().out


def test_the_command_ends_with_1_where_another_result_was_published(tmp_path, capsys):
    for name, text in write_bundle(*a_price_pressed_down_on_windows().parts).items():
        (tmp_path / name).write_bytes(text)

    with pytest.raises(CommandError) as refusal:
        call_command("verify", "clearing", str(tmp_path), replay=True)

    assert refusal.value.returncode == 1
    assert "BROKEN  prices.jsonl line 1" in capsys.readouterr().out
