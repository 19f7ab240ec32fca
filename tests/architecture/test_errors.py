"""Every refusal that can reach HTTP has a status and a line in the API's documentation."""

from __future__ import annotations

from types import ModuleType

import pytest
import yaml

import ledger.errors as books
import marketplace.agent.errors as agent
import marketplace.api.errors as api
import marketplace.errors as market
import pricing.errors as pricing
from marketplace.api.docs import SCHEMA
from marketplace.api.problems import JOBS_ONLY, NEVER_OVER_HTTP, STATUS, exception_handler, reachable
from marketplace.api.reference import list_refusals, meanings

TREES: tuple[tuple[ModuleType, type[Exception]], ...] = (
    (market, market.MarketError), (books, books.LedgerError), (pricing, pricing.PricingError),
    (agent, agent.AgentError), (api, api.ApiError),
)  # fmt: skip


def classes_of(module: ModuleType, root: type[Exception]) -> list[type[Exception]]:
    return [kind for kind in dict.fromkeys(reachable(root)) if kind.__module__ == module.__name__]


EVERY = [kind for module, root in TREES for kind in classes_of(module, root)]


def test_the_trees_are_walked_whole():
    for module, root in TREES:
        defined = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Exception)]
        own = {kind for kind in defined if kind.__module__ == module.__name__}
        assert own == set(classes_of(module, root)), module.__name__


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_a_refusal_has_a_status_or_a_reason_why_it_never_meets_a_request(kind):
    has_status, has_reason = kind in STATUS, kind in NEVER_OVER_HTTP or issubclass(kind, JOBS_ONLY)

    assert has_status != has_reason, "give it a line in STATUS or in NEVER_OVER_HTTP of marketplace/api/problems.py"
    assert isinstance(kind.code, str)


def test_the_documentation_has_a_line_for_every_code_with_a_status():
    documented = {line.code: line for line in list_refusals()}
    description = yaml.load(SCHEMA.read_bytes(), Loader=yaml.CSafeLoader)["info"]["description"]

    for kind, status in STATUS.items():
        assert documented[kind.code].status == status, kind
        assert documented[kind.code].meaning
        assert f"| `{kind.code}` | {status} |" in description


def test_one_code_has_one_status():
    statuses: dict[str, set[int]] = {}
    for kind, status in STATUS.items():
        statuses.setdefault(kind.code, set()).add(status)

    assert {code: found for code, found in statuses.items() if len(found) > 1} == {}


@pytest.mark.parametrize(("module", "root"), TREES, ids=lambda part: getattr(part, "__name__", ""))
def test_the_drawing_at_the_top_of_a_tree_names_every_class(module, root):
    drawn = meanings(module)

    for kind in classes_of(module, root)[1:]:
        assert kind.__name__ in drawn, f"draw {kind.__name__} at the top of {module.__name__}"
        assert kind.code in module.__doc__


def test_a_status_is_told_as_a_problem_document_and_an_unknown_mistake_is_not():
    answer = exception_handler(market.DemandFirst("No bid before funded demand.", needed_unit_hours=64), {})

    assert (answer.status_code, answer.data["code"], answer.data["needed_unit_hours"]) == (409, "demand_first", 64)
    assert exception_handler(RuntimeError("ours"), {}) is None
    assert exception_handler(market.CertificateRefused("by the job"), {}) is None


def test_facts_never_overwrite_the_members_of_a_problem():
    sly = market.BadInput("Wrong.", status=200, type="x", code="fine", title="y", field="kind", price=10**18)
    answer = exception_handler(sly, {})

    assert (answer.data["status"], answer.data["code"]) == (422, "bad_input")
    assert answer.data["type"] == "/problems/bad_input"
    assert answer.data["price"] == str(10**18)
