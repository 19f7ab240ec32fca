"""Optional backends: taken only where present, refused where they round, the same bits as the reference."""

import numpy as np
import pytest

from marketplace.agent import backends
from marketplace.agent.backends import (
    OnnxInt8,
    TorchInt8,
    backend_for,
    backends_present,
    cuda_missing,
    matmul_integer_model,
    refuse_inexact,
)
from marketplace.agent.errors import BackendInexact, BackendMissing
from marketplace.agent.prover import LocalProver
from pricing.errors import MalformedProof
from pricing.proof import Prover, backend_named, weights_of
from tests.pricing.cheats import TINY as PRESET
from tests.pricing.cheats import Rounding, Skipping, nonces_of, secret, session


@pytest.mark.parametrize("name", ["float64", "int8", "torch-int8"])
def test_every_backend_commits_to_the_same_bytes_as_the_reference(name):
    if name not in backends_present():
        pytest.skip(f"{name} cannot run here: " + (cuda_missing() if name == "torch-int8" else "no ONNX Runtime."))
    seed = secret("same bits")
    reference = Prover(preset=PRESET, seed=seed, backend=backend_named("float32"))
    other = Prover(preset=PRESET, seed=seed, backend=backend_for(name))

    for nonce in nonces_of(0, PRESET):
        assert other.commit_block(nonce) == reference.commit_block(nonce)


class PlainIntegers:
    """What the int8 libraries must come to: the step and the sums in whole numbers, offset as MatMulInteger has it."""

    name = "plain"

    def load(self, weights):
        self.weights = weights.astype(np.int64)

    def product(self, rows):
        shifted = rows.view(np.uint8) + np.uint8(32)
        return ((shifted.astype(np.int64) - 32) @ self.weights).astype(np.int32)

    def chain(self, rows, products):
        for _ in range(products):
            whole = self.product(rows)
            rows = ((((whole >> 5) ^ (whole >> 11)) & 63) - 32).astype(np.int8)
        return rows


def test_the_int8_path_in_plain_integers_is_accepted_and_bit_identical():
    checker, nonces, commitments, openings = session(3, backend=PlainIntegers())
    _, _, reference, _ = session(3)

    checker.check(nonces, commitments, openings)
    assert commitments == reference


def test_a_backend_that_rounds_is_refused_and_an_exact_one_is_not():
    weights = weights_of(secret("w"), 64)
    for exact in ("float32", "float64"):
        backend = backend_named(exact)
        backend.load(weights)
        refuse_inexact(backend, weights)

    for wrong in (Rounding(), Skipping(1, 0.5)):
        wrong.load(weights)
        with pytest.raises(BackendInexact):
            refuse_inexact(wrong, weights)


@pytest.mark.parametrize(("kind", "package"), [(OnnxInt8, "onnxruntime"), (TorchInt8, "torch")])
def test_a_missing_library_is_named(kind, package, monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda name: None)

    with pytest.raises(BackendMissing) as refusal:
        kind()
    assert refusal.value.facts["package"] == package
    assert backends_present() == ["float32", "float64"]
    assert LocalProver("auto").backend == "float32"
    with pytest.raises(MalformedProof, match="No such backend"):
        backend_for("float16")


def test_the_model_holds_the_weights_as_they_are_and_nothing_but_a_square():
    weights = weights_of(secret("w"), 32)
    model = matmul_integer_model(weights)

    assert model.count(weights.tobytes()) == 1
    assert b"MatMulInteger" in model
    with pytest.raises(MalformedProof):
        matmul_integer_model(weights[:5])
