"""A chain of one's own per test: in memory and already deployed, or in the test database with processes around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, connections

from ledger import tasks
from ledger.chart import CHART, Side
from ledger.models import Account
from ledger.rails import deploy, embedded, evm
from ledger.rails.base import Chain
from ledger.rails.store import MemoryStore
from ledger.reconcile import check_books
from ledger.services import USDC6_LEDGER
from tests.owner import as_owner, empty_the_books
from tests.rails.anvil import Anvil
from tests.rails.card_desk import Desk
from tests.rails.processor import Processor, running

START = datetime(2027, 1, 4, 9, tzinfo=UTC)


@dataclass
class Clock:
    """The time of one test; it moves when told to."""

    now: datetime = START
    follower: Callable[[float], None] | None = None

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> datetime:
        self.now += timedelta(**span)
        if self.follower is not None:
            self.follower(timedelta(**span).total_seconds())
        return self.now


@dataclass
class Deployed:
    """The chain of a session after deployment, to start each test from."""

    chain: Chain | None = None
    snapshot: tuple[Any, ...] = field(default_factory=tuple)


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    embedded.use_clock(clock)
    yield clock
    embedded.use_clock(None)


@pytest.fixture(scope="session")
def keys_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def keys(keys_home: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("KEYFILE_PASSPHRASE", raising=False)
    settings.DATA_DIR = keys_home
    settings.CHAIN_URL = ""
    return keys_home


@pytest.fixture(scope="session")
def deployed_once() -> Deployed:
    return Deployed()


@pytest.fixture(scope="session")
def earnings() -> Any:
    """Where the tests of one process keep what a provider has earned."""
    from tests.rails.bank_desk import Earnings

    return Earnings()


@pytest.fixture
def transactional_db(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """A database in which the code under test really commits; the books are emptied afterwards."""
    with django_db_blocker.unblock():
        assert connection.settings_dict["NAME"].startswith("test_"), "only a test database is ever emptied"
        yield
        empty_the_books()
        connections.close_all()


@pytest.fixture
def rails(
    transactional_db: None, keys: Path, clock: Clock, settings: Any, deployed_once: Deployed
) -> Iterator[Chain]:
    """Our contracts on a chain in memory, and empty books."""
    if deployed_once.chain is None:
        deployed_once.chain = evm.open_embedded(MemoryStore(), settings.CHAIN_ID)
        evm.use_chain(deployed_once.chain)
        deploy.ensure_deployed(clock.now)
        deployed_once.snapshot = store_of(deployed_once.chain).snapshot()
    chain = deployed_once.chain
    store_of(chain).restore(deployed_once.snapshot)
    evm.use_chain(chain)
    deploy.ensure_deployed(clock.now)
    yield chain
    evm.use_chain(None)


@pytest.fixture(scope="session")
def anvil_process() -> Iterator[Anvil]:
    """A real node of another make; skipped, with the reason, only where npm cannot bring it."""
    with Anvil(START) as node:
        yield node


@pytest.fixture
def anvil(
    transactional_db: None, keys: Path, clock: Clock, settings: Any, anvil_process: Anvil
) -> Iterator[Anvil]:
    """Our contracts on anvil, reached through CHAIN_URL, and empty books. A block is final 16 blocks later."""
    yield from _settle_on(anvil_process, clock, settings)


@pytest.fixture
def fresh_anvil(transactional_db: None, keys: Path, clock: Clock, settings: Any) -> Iterator[Anvil]:
    """Like `anvil`, a node of the test's own: one that has replaced some thousand blocks loses its contracts' state."""
    with Anvil(START) as node:
        yield from _settle_on(node, clock, settings)


def _settle_on(node: Anvil, clock: Clock, settings: Any) -> Iterator[Anvil]:
    settings.CHAIN_URL = node.url
    evm.use_chain(None)
    evm.close_all()
    node.begin(lambda: deploy.ensure_deployed(clock.now))
    deploy.ensure_deployed(clock.now)
    clock.follower = node.pass_time
    yield node
    node.rpc("evm_setAutomine", True)
    evm.close_all()


@pytest.fixture(params=["embedded", "anvil"])
def either(request: pytest.FixtureRequest, transactional_db: None) -> Chain:
    """Our contracts on the embedded chain, then on anvil: the same tests on both."""
    if request.param == "embedded":
        return request.getfixturevalue("rails")  # type: ignore[no-any-return]
    request.getfixturevalue("anvil")
    return evm.chain()


@pytest.fixture
def shared_chain(transactional_db: None, keys: Path, clock: Clock, settings: Any) -> Iterator[Chain]:
    """An empty chain in the test database, which other processes can open too."""
    evm.use_chain(None)
    chain = evm.chain()
    yield chain
    evm.close_all()
    with as_owner() as cursor:
        cursor.execute("truncate chain.node, chain.log, chain.revert")


def store_of(chain: Chain) -> MemoryStore:
    assert chain.embedded is not None
    store = chain.embedded.store
    assert isinstance(store, MemoryStore)
    return store


def minor(code: str, party: UUID | None = None, scope: UUID | None = None) -> int:
    """What an account of the stablecoin's ledger holds on its normal side, in micro-USD."""
    row = Account.objects.filter(ledger=USDC6_LEDGER, code=code, party=party, scope=scope).first()
    if row is None:
        return 0
    grown = row.credits_posted - row.debits_posted
    return grown if CHART[code].side is Side.CREDIT else -grown


@pytest.fixture(scope="session")
def sandbox_process(django_db_setup: None, django_db_blocker: Any) -> Iterator[Processor]:
    """The card sandbox of a session; what earlier tests left in it stays, as at a real processor."""
    with django_db_blocker.unblock(), running() as processor:
        connection.close()
        yield processor


@pytest.fixture
def processor(sandbox_process: Processor, settings: Any, django_db_blocker: Any) -> Processor:
    """The sandbox, well-behaved and empty, as the rail under test reaches it. Webhooks are handed out, not sent."""
    settings.STRIPE_API_KEY, settings.STRIPE_SANDBOX_URL = "", sandbox_process.url
    settings.CARD_DELAY_HOURS = 24 * 365
    with django_db_blocker.unblock(), as_owner() as cursor:
        cursor.execute("truncate stripe_sandbox.object, stripe_sandbox.answer, stripe_sandbox.delivery")
    sandbox_process.behave(hold=1)
    return sandbox_process


@pytest.fixture
def desk(transactional_db: None, processor: Processor, clock: Clock) -> Iterator[Desk]:
    before = tasks._clock
    tasks.use_clock(clock)
    yield Desk(processor, clock)
    tasks.use_clock(before)
    broken = [found for found in check_books() if not found.ok]
    assert broken == []
