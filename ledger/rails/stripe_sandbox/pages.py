"""The sandbox's pages in plain HTML: where a person pays with a test card. No script, nothing from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

from ledger.rails.stripe_sandbox.payments import CARDS

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f6f7f9;color:#16202c}"
    "main{max-width:30rem;margin:2rem auto;padding:1.5rem;background:#fff;border:1px solid #d5dae1;border-radius:8px}"
    ".banner{background:#fff3cd;color:#4d3a00;padding:.75rem 1rem;text-align:center;border-bottom:1px solid #e5cf87}"
    "label{display:block;font-weight:600;margin-top:1rem}"
    "input{width:100%;box-sizing:border-box;font:inherit;padding:.5rem;border:1px solid #6b7684;border-radius:6px}"
    "button{font:inherit;margin-top:1rem;padding:.6rem 1rem;width:100%;border-radius:6px;border:1px solid #0a58ca;"
    "background:#0a58ca;color:#fff;cursor:pointer}button.plain{background:#fff;color:#0a58ca}"
    "button:focus-visible,input:focus-visible{outline:3px solid #6ea8fe;outline-offset:2px}"
    ".error{background:#fdecea;color:#7a1210;padding:.5rem .75rem;border-radius:6px}code{overflow-wrap:anywhere}"
)


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,'
        f'initial-scale=1"><title>{escape(title)} · Sandbox</title><style>{STYLE}</style></head><body>'
        f'<div class="banner" role="note"><b>Sandbox.</b> No card is charged and no money moves.</div>'
        f"<main>{body}</main></body></html>"
    )


def pay_page(session: dict[str, Any], problem: str) -> str:
    """Return the page on which an open session is paid."""
    dollars, cents = divmod(int(session["amount_total"]), 100)
    cards = "".join(f"<li><code>{number}</code> {words}</li>" for number, words in CARDS.items())
    error = f'<p class="error" role="alert">{escape(problem)}</p>' if problem else ""
    return _page(
        "Pay by card",
        f"<h1>Pay ${dollars:,}.{cents:02}</h1>{error}"
        f'<form method="post"><label for="number">Test card number</label>'
        f'<input id="number" name="number" value="4242424242424242" inputmode="numeric" autocomplete="off" required>'
        f"<button>Pay ${dollars:,}.{cents:02}</button></form>"
        f'<form method="post"><button class="plain" name="leave" value="1">Go back without paying</button></form>'
        f"<p>Any other number is refused. The test cards:</p><ul>{cards}</ul>",
    )


def account_page(id: str, return_url: str) -> str:
    """Return the page on which the holder of a connected account would give their details."""
    action = f'action="/connect/{escape(id)}?return_url={escape(return_url)}"'
    return _page(
        "Be paid to a bank account",
        f"<h1>Be paid to a bank account</h1><p>Account <code>{escape(id)}</code></p>"
        "<p>The real page asks for the organisation, a person who acts for it, and the bank account here.</p>"
        f'<form method="post" {action}><button>Confirm these details</button></form>'
        f'<form method="post" {action}><button class="plain" name="leave" value="1">Finish later</button></form>',
    )


def closed_page(sentence: str) -> str:
    """Return a page that only says something."""
    return _page("Payment", f"<h1>{escape(sentence)}</h1><p>You can close this page and go back to the market.</p>")
