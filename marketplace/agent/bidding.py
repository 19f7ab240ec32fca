"""From a file to sealed bids: rehearse every bid at the market first, then submit each once.

A JSON file holds one bid as the API takes it; any other file is a strategy in TOML (see `strategy.py`). The key of an
act is made from its body and the reference from the strategy's name, window and hours, so a file that is sent twice, or
again after a cut, is one set of bids.
"""

import json
from pathlib import Path
from typing import Any

from marketplace.agent.client import ApiClient, key_of
from marketplace.agent.errors import AgentError, NothingToBid, ServerRefused, StrategyWrong
from marketplace.agent.progress import progress
from marketplace.agent.strategy import bids_of, read_strategy


def submit_file(client: ApiClient, path: Path, *, is_rehearsal: bool) -> dict[str, Any]:
    """Rehearse the bids of a file, then submit them unless told not to. Nothing is sent if one would be refused.

    Raises StrategyWrong, NothingToBid, or ServerRefused naming the first bid that the market refuses.
    """
    bids = _bids_in(client, path)
    rehearsed = _each(client.rehearse_bid, bids, "rehearsing")
    told: dict[str, Any] = {
        "bids": [answer["would_be"] for answer in rehearsed],
        "unit_hours": sum(_unit_hours(bid) for bid in bids),
        "asked_micros": str(sum(_unit_hours(bid) * int(bid.get("price_ask_micros", 0)) for bid in bids)),
        "submitted": 0,
    }
    if is_rehearsal:
        return told | {"next": "The same command without --dry-run submits them."}
    answers = _each(lambda bid: client.post_bid(bid, idempotency_key=key_of(bid)), bids, "submitting")
    return told | {"bids": answers, "submitted": len(answers)}


def _bids_in(client: ApiClient, path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    if path.suffix == ".json":
        return [_one_bid(text, path)]
    strategy = read_strategy(text)
    own = [row for row in client.rows("/api/v1/capacity") if row["id"] == strategy.node_class]
    if not own:
        raise StrategyWrong("There is no such node class of yours.", field="node_class", node_class=strategy.node_class)
    windows = [row for row in client.rows("/api/v1/windows", state="BIDDING") if strategy.window in (None, row["name"])]
    if not windows:
        raise NothingToBid(
            "No window takes bids now: one opens once funded demand passes its gate.", window=strategy.window
        )
    return [bid for window in windows for bid in bids_of(strategy, window, own[0])]


def _one_bid(text: str, path: Path) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        where = {"line": error.lineno, "field": "", "why": f"this is no JSON: {error.msg}"}
        raise StrategyWrong(
            f"Line {error.lineno}: this is no JSON: {error.msg}.", path=str(path), mistakes=[where]
        ) from error
    if not isinstance(body, dict):
        raise StrategyWrong("A bid file holds one JSON object.", path=str(path))
    return body


def _each(act: Any, bids: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    answers = []
    with progress(f"{what} bids", len(bids)) as told:
        for number, bid in enumerate(bids, start=1):
            try:
                answers.append(act(bid))
            except AgentError as error:
                error.facts |= {"bid": number, "of": len(bids), "reference": bid.get("reference"), "while": what}
                if isinstance(error, ServerRefused) and error.facts.get("problem_code") == "reference_reused":
                    error.facts["help"] = "Withdraw that bid, or give the strategy another name."
                raise
            told(number)
    return answers


def _unit_hours(bid: dict[str, Any]) -> int:
    try:
        return int(bid["quantity_units"]) * (int(bid["end_slot"]) - int(bid["start_slot"]))
    except (KeyError, ValueError, TypeError):  # told by the market, which names the field
        return 0
