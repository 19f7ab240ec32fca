"""Our signers against implementations that are not ours, over real HTTP: a node that signs, and a key service.

anvil signs for its own accounts (`eth_signTransaction`) and mines what it signed. moto stands for AWS KMS: its keys,
its DER and its errors are foreign code. It hashes what it is told not to hash (`MessageType=DIGEST`), which AWS does
not; so what it signs must be refused, and is.
"""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from eth_utils.address import to_checksum_address

from ledger.models import ChainAttempt, ChainIntent
from ledger.rails import evm
from ledger.rails.errors import SignerRefused
from ledger.rails.outside_keys import DerKey, RemoteKey, RemoteSigner
from ledger.rails.signer import signer
from tests.rails.anvil import Anvil
from tests.rails.conftest import Clock, minor
from tests.rails.test_outside_keys import TX
from tests.rails.test_story import CLASS_ID, NODE_CLASS, PROVIDER, USD, Market, held
from tests.rooms import quiet_port

START_SECONDS_MAX = 300  # only ends what hangs
MISSING = [name for name in ("moto", "boto3", "flask") if importlib.util.find_spec(name) is None]


def test_a_payout_signed_by_a_foreign_node_is_mined_and_booked(anvil: Anvil, clock: Clock, settings: Any) -> None:
    market = Market(evm.chain(), clock)
    market.fund()
    market.attest()
    market.prove(1, epoch=1)
    market.stake()
    market.turn()
    clock.forward(days=15)
    market.prove(2, epoch=2)
    market.turn()
    market.lock()
    market.turn()
    clock.forward(hours=2)
    market.settle()
    market.turn()
    assert (held(), minor("provider.payable", party=PROVIDER, scope=NODE_CLASS)) == (0, 273 * USD)
    foreign = to_checksum_address(anvil.rpc("eth_accounts")[0])
    settings.SIGNER_URL, settings.SIGNER_KEYS = anvil.url, [f"custody={foreign}"]
    assert signer().address("custody") == foreign

    market.submit("custody", "escrow", "withdraw_for", CLASS_ID)
    market.turn()

    intent = ChainIntent.objects.get(role="custody", function="withdraw_for")
    mined = anvil.rpc("eth_getTransactionByHash", intent.tx_hash)
    assert (intent.state, to_checksum_address(mined["from"])) == ("final", foreign)
    assert ChainAttempt.objects.filter(intent=intent).count() == 1
    assert market.chain.call("token", "balanceOf", signer().address(market.provider)) == 273 * USD
    assert minor("provider.payable", party=PROVIDER, scope=NODE_CLASS) == 0


def test_a_foreign_node_that_has_not_the_key_is_refused(anvil: Anvil) -> None:
    key = RemoteKey(RemoteSigner(anvil.url, seconds_max=5), "0x" + "99" * 20)

    with pytest.raises(SignerRefused):
        key.sign_transaction(TX)


@pytest.fixture(scope="module")
def kms() -> Iterator[Any]:
    """A client of AWS's own make, speaking HTTP to moto in a process of its own."""
    if MISSING:
        pytest.skip(f"{', '.join(MISSING)} not installed (pip install 'moto[server,kms]==5.2.5' boto3): "
                    "the key service is NOT tried against a foreign one here")  # fmt: skip
    import boto3  # type: ignore[import-not-found]

    port = quiet_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not answers(port):
            assert (process.poll(), time.monotonic() < deadline) == (None, True), "moto did not start"
            time.sleep(0.1)
        yield boto3.client("kms", endpoint_url=f"http://127.0.0.1:{port}", region_name="eu-central-1",
                           aws_access_key_id="none", aws_secret_access_key="none")  # fmt: skip
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.filterwarnings("ignore")  # of foreign packages
def test_the_key_of_a_foreign_key_service_is_read_and_a_signature_of_something_else_refused(kms: Any) -> None:
    made = kms.create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]

    key = DerKey(kms, made)

    assert to_checksum_address(key.address) == key.address
    with pytest.raises(SignerRefused, match="something else than asked"):  # sha256 of our digest
        key.sign_transaction(TX)


@pytest.mark.filterwarnings("ignore")
def test_a_foreign_key_of_another_curve_or_no_key_at_all_is_refused(kms: Any) -> None:
    other = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]

    with pytest.raises(SignerRefused, match="secp256k1"):
        DerKey(kms, other)
    with pytest.raises(SignerRefused):
        DerKey(kms, "11111111-2222-3333-4444-555555555555")
