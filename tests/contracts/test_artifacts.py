"""What is committed is what the sources say: bytecode, typed structs, jurisdictions."""

import json
from pathlib import Path

import pytest
from eth_account.messages import encode_typed_data
from eth_utils import keccak

from contracts import compile as compiler
from contracts import eip712
from contracts.artifacts import BUILD, NAMES, load
from contracts.compile import CODE_SIZE_MAX, SOURCES, compiled
from contracts.jurisdictions import (
    COUNTRY_BY_INDEX,
    EVERY_COUNTRY_MASK,
    INDEX_BY_COUNTRY,
    countries_of,
    index_of,
    mask_of,
)
from contracts.parameters import anchor_arguments, escrow_arguments, token_arguments
from tests.contracts.chain import TestChain
from tests.contracts.world import World


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_build_is_what_the_sources_compile_to(name: str) -> None:
    committed = (BUILD / f"{name}.json").read_text(encoding="ascii")

    assert compiled(name) == committed
    assert json.loads(committed)["runtime_bytes"] <= CODE_SIZE_MAX


def test_a_stale_build_is_found_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiler, "BUILD", tmp_path)
    monkeypatch.setattr(compiler, "NAMES", ("anchor",))

    assert compiler.main(["--check"]) == 1
    assert compiler.main([]) == 0
    assert (tmp_path / "anchor.json").read_bytes() == (BUILD / "anchor.json").read_bytes()
    assert "anchor.json is stale" in capsys.readouterr().out


def test_an_artefact_is_loaded_without_a_compiler() -> None:
    artifact = load("anchor")

    assert artifact.constructor_inputs() == (
        ("poster", "address"), ("governance", "address"), ("governance_delay", "uint256"),
    )  # fmt: skip
    assert (artifact.compiler, artifact.evm_version) == ("vyper 0.4.3", "cancun")
    with pytest.raises(ValueError, match="no such contract"):
        load("treasury")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("token", token_arguments(minter="m")),
        ("anchor", anchor_arguments(poster="p", governance="g")),
        (
            "escrow",
            escrow_arguments(
                token="t", stake="s", operator="o", pauser="p", governance="g", treasury="t", fee_bps=1, unproven_cap=1
            ),
        ),
    ],
)
def test_the_parameters_fit_the_constructor(name: str, arguments: tuple[object, ...]) -> None:
    inputs = load(name).constructor_inputs()

    assert len(arguments) == len(inputs)
    for value, (_, kind) in zip(arguments, inputs, strict=True):
        assert isinstance(value, int) == kind.startswith("uint")


@pytest.mark.parametrize(
    ("struct", "source"),
    [
        (eip712.Mandate, "escrow.vy"),
        (eip712.Verdict, "modules/verdict.vy"),
        (eip712.ClassAttestation, "stake.vy"),
        (eip712.BenchmarkAttestation, "stake.vy"),
        (eip712.Resumption, "stake.vy"),
        (eip712.Permit, "token.vy"),
    ],
)
def test_the_typed_structs_are_those_of_the_contracts(struct: type[eip712.Struct], source: str) -> None:
    assert f'keccak256("{struct.type_string()}")' in "".join(
        line.strip() for line in (SOURCES / source).read_text(encoding="utf-8").splitlines()
    )


def test_a_digest_is_the_one_of_the_standard(world: World) -> None:
    permit = eip712.Permit("0x" + "11" * 20, "0x" + "22" * 20, 3, 4, 5)
    words = [bytes.fromhex("11" * 20).rjust(32, b"\0"), bytes.fromhex("22" * 20).rjust(32, b"\0")]
    words += [number.to_bytes(32, "big") for number in (3, 4, 5)]
    body = keccak(keccak(text=permit.type_string()) + b"".join(words))

    expected = keccak(b"\x19\x01" + world.call("token", "DOMAIN_SEPARATOR") + body)

    assert permit.digest(TestChain.chain_id, world.address("token")) == expected


@pytest.mark.parametrize(
    "struct",
    [
        eip712.Mandate("0x" + "Ab" * 20, 7, 2**64 - 1, 2**255 + 1, 3, 5, 9, 1_800_000_000),
        eip712.ClassAttestation("0x" + "11" * 20, 2, 57, 58, 59, 60, 2, 10**12, 1_800_000_000, 4),
        eip712.BenchmarkAttestation(
            *(bytes([n]) * 32 for n in (1, 2, 3)), 2, *(bytes([n]) * 32 for n in (4, 5, 6, 7)),
            121_000_000_000, 80 << 30, 3 * 10**12, 400, 1, 61, 99, 3, bytes([8]) * 32,
        ),
        eip712.Verdict(bytes([9]) * 32, 2, 3, 511, 10**9, 3, 1_700_000_000, 4, 1_800_000_000),
        eip712.Resumption(2, 5, 1_800_000_000),
        eip712.Permit("0x" + "11" * 20, "0x" + "22" * 20, 3, 4, 5),
    ],
    ids=lambda struct: struct.primary_type,
)  # fmt: skip
def test_every_struct_is_hashed_as_wallets_hash_it(struct: eip712.Struct) -> None:
    message = encode_typed_data(full_message=struct.typed(31338, "0x" + "CD" * 20))
    expected = keccak(b"\x19" + message.version + message.header + message.body)

    assert struct.digest(31338, "0x" + "CD" * 20) == expected
    assert struct.digest(31339, "0x" + "CD" * 20) != expected


def test_a_value_that_its_type_cannot_hold_is_not_hashed() -> None:
    with pytest.raises(ValueError, match="is no uint8"):
        eip712.ClassAttestation("0x" + "11" * 20, 2, 256, 58, 59, 60, 2, 1, 1, 4).digest(1, "0x" + "22" * 20)


def test_signatures_are_put_in_the_order_of_the_signers() -> None:
    low, high = eip712.Signature(27, b"l", b"l"), eip712.Signature(28, b"h", b"h")

    assert eip712.in_signing_order({"0xff": high, "0x0a": low}) == (low.abi(), high.abi())


def test_jurisdictions_are_two_hundred_and_forty_nine_in_order() -> None:
    codes = list(INDEX_BY_COUNTRY)

    assert codes == sorted(codes)
    assert list(INDEX_BY_COUNTRY.values()) == list(range(249))
    assert (index_of("AD"), index_of("ZW"), COUNTRY_BY_INDEX[0]) == (0, 248, "AD")


def test_a_mask_has_one_bit_per_country() -> None:
    mask = mask_of(["DE", "FR", "DE"])

    assert mask == 1 << index_of("DE") | 1 << index_of("FR")
    assert countries_of(mask) == ("DE", "FR")
    assert mask_of(INDEX_BY_COUNTRY) == EVERY_COUNTRY_MASK
    with pytest.raises(ValueError, match="not an ISO 3166-1"):
        mask_of(["DE", "XX"])
    with pytest.raises(ValueError, match="beyond the last jurisdiction"):
        countries_of(1 << 249)
