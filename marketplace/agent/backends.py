"""Faster ways to multiply than numpy: int8 through ONNX Runtime, int8 on a CUDA device through torch.

Both are optional and imported only when asked for; `numpy` alone runs everything. A backend is taken into use only
after it has multiplied some rows to the same integers as plain integer arithmetic: one that rounds is refused here,
not by a verifier a minute later.
"""

import os
from importlib.util import find_spec
from typing import Any

import numpy as np

from marketplace.agent.errors import BackendInexact, BackendMissing
from pricing.errors import MalformedProof
from pricing.proof import (
    PANEL_ROWS,
    Backend,
    Int8s,
    Int32s,
    backend_named,
    digest,
    random_rows,
    step,
    step_in_parts,
)

NAMES = ("auto", "float32", "float64", "int8", "torch-int8")
ROWS_TRIED = 17  # torch._int_mm takes no fewer


class OnnxInt8:
    """ONNX Runtime's MatMulInteger: uint8 (X + 32) by int8 W to int32, exact on every processor it runs on.

    Where a processor lacks VNNI the library adds pairs of products in 16 bits with saturation; a pair is at most
    2 * 63 * 32 = 4032 here, so nothing saturates.
    """

    name = "int8"

    def __init__(self) -> None:
        if find_spec("onnxruntime") is None:
            raise BackendMissing("ONNX Runtime is not installed.", backend=self.name, package="onnxruntime")

    def load(self, weights: Int8s) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)  # as numpy; 0: all processors
        self._session = onnxruntime.InferenceSession(
            matmul_integer_model(weights), options, providers=["CPUExecutionProvider"]
        )
        refuse_inexact(self, weights)

    def product(self, rows: Int8s) -> Int32s:
        product: Int32s = self._session.run(None, {"A": rows.view(np.uint8) + np.uint8(32)})[0]
        return product

    def chain(self, rows: Int8s, products: int) -> Int8s:
        ends = np.empty_like(rows)
        height = min(PANEL_ROWS, len(rows))
        shifted = np.empty((height, rows.shape[1]), np.uint8)  # X + 32: what the step gives before it takes 32 away
        product = np.empty(shifted.shape, np.int32)
        for first in range(0, len(rows), height):
            panel = rows[first : first + height]
            x, y = shifted[: len(panel)], product[: len(panel)]
            np.add(panel.view(np.uint8), np.uint8(32), out=x)
            bound = self._bind(x, y)
            for left in range(products - 1, -1, -1):
                self._session.run_with_iobinding(bound)
                step_in_parts(y, x if left else ends[first : first + height], offset=0 if left else -32)
        return ends

    def _bind(self, x: Any, y: Any) -> Any:
        """Let the library read and write our own arrays: it would otherwise allocate and copy each product."""
        bound = self._session.io_binding()
        bound.bind_input("A", "cpu", 0, np.uint8, x.shape, x.ctypes.data)
        bound.bind_output("Y", "cpu", 0, np.int32, y.shape, y.ctypes.data)
        return bound


class TorchInt8:
    """torch._int_mm on a CUDA device, int8 by int8 to int32; all products and steps of a block stay on the device."""

    name = "torch-int8"

    def __init__(self) -> None:
        reason = cuda_missing()
        if reason:
            raise BackendMissing(reason, backend=self.name, package="torch")

    def load(self, weights: Int8s) -> None:
        import torch

        self._torch = torch
        # Column-major on the device: the layout for which cuBLASLt has its fastest int8 kernels.
        self._weights = torch.from_numpy(np.ascontiguousarray(weights.T)).cuda().t()
        refuse_inexact(self, weights)

    def product(self, rows: Int8s) -> Int32s:
        product: Int32s = self._multiply(self._to_device(rows))[: len(rows)].cpu().numpy()
        return product

    def chain(self, rows: Int8s, products: int) -> Int8s:
        torch, current = self._torch, self._to_device(rows)
        for _ in range(products):
            whole = self._multiply(current)
            current = ((((whole >> 5) ^ (whole >> 11)) & 63) - 32).to(torch.int8)
        ends: Int8s = current[: len(rows)].cpu().numpy()
        return ends

    def _to_device(self, rows: Int8s) -> Any:
        missing = max(0, 32 - len(rows))
        padded = np.concatenate([rows, np.zeros((missing, rows.shape[1]), np.int8)]) if missing else rows
        return self._torch.from_numpy(np.ascontiguousarray(padded)).cuda()

    def _multiply(self, rows: Any) -> Any:
        return self._torch._int_mm(rows, self._weights)


def backend_for(name: str) -> Backend:
    """A fresh backend. "auto" is the fastest exact one here. Raises BackendMissing, or MalformedProof for no name."""
    if name == "auto":
        name = best_present()
    if name == OnnxInt8.name:
        return OnnxInt8()
    if name == TorchInt8.name:
        return TorchInt8()
    return backend_named(name)


def best_present() -> str:
    """The fastest backend on this machine: a CUDA device, else int8 on the processor, else float32."""
    if not cuda_missing():
        return TorchInt8.name
    return OnnxInt8.name if find_spec("onnxruntime") else "float32"


def backends_present() -> list[str]:
    """All backends that this machine can run."""
    optional = [(OnnxInt8.name, not find_spec("onnxruntime")), (TorchInt8.name, bool(cuda_missing()))]
    return ["float32", "float64", *(name for name, is_missing in optional if not is_missing)]


def cuda_missing() -> str:
    """Why there is no CUDA backend here; empty where there is one."""
    if find_spec("torch") is None:
        return "torch is not installed."
    import torch

    return "" if torch.cuda.is_available() else "torch finds no CUDA device."


def refuse_inexact(backend: Backend, weights: Int8s) -> None:
    """Multiply some rows, extreme ones among them, and compare with int64 arithmetic. Raises BackendInexact."""
    size = len(weights)
    rows = random_rows(digest(b"self-test"), 0, ROWS_TRIED, size).astype(np.int8) - np.int8(32)
    rows[0], rows[1] = -32, 31
    wanted = np.concatenate(
        [rows.astype(np.int64) @ weights[:, first : first + 256].astype(np.int64) for first in range(0, size, 256)],
        axis=1,
    )
    if not np.array_equal(backend.product(rows), wanted):
        raise BackendInexact("This backend rounds; its proofs would be refused.", backend=backend.name)
    once = step(wanted.astype(np.int32))
    if not np.array_equal(backend.chain(rows, 1), once):
        raise BackendInexact("This backend steps wrongly; its proofs would be refused.", backend=backend.name)


# --- the ONNX model, written by hand: the `onnx` package would be needed for nothing else -----------------------------

UINT8, INT8, INT32 = 2, 3, 6  # TensorProto.DataType


def matmul_integer_model(weights: Int8s) -> bytes:
    """A model of one node, Y = MatMulInteger(A, W, 32), as the bytes of an ONNX ModelProto (IR 8, opset 13)."""
    size = len(weights)
    if weights.shape != (size, size) or weights.dtype != np.int8:
        raise MalformedProof("The weights are a square int8 matrix.", shape=weights.shape)
    node = b"".join(_field(1, name) for name in (b"A", b"W", b"z")) + _field(2, b"Y") + _field(4, b"MatMulInteger")
    held = _tensor(b"W", INT8, weights.tobytes(), size, size) + _tensor(b"z", UINT8, bytes([32]))
    ends = _field(11, _value(b"A", UINT8, size)) + _field(12, _value(b"Y", INT32, size))
    graph = _field(1, node) + _field(2, b"product") + held + ends
    return _number(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _number(2, 13))


def _tensor(name: bytes, kind: int, cells: bytes, *sides: int) -> bytes:
    dimensions = b"".join(_number(1, side) for side in sides)
    return _field(5, dimensions + _number(2, kind) + _field(8, name) + _field(9, cells))


def _value(name: bytes, kind: int, size: int) -> bytes:
    shape = _field(1, _field(2, b"rows")) + _field(1, _number(1, size))
    return _field(1, name) + _field(2, _field(1, _number(1, kind) + _field(2, shape)))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])
