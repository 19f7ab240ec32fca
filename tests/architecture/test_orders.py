"""Every order that a model promises tells any two of its rows apart: a page, a cut or a sum never hangs on chance."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import models

ORDERED = [
    model
    for app in ("marketplace", "ledger")
    for model in apps.get_app_config(app).get_models()
    if model._meta.ordering
]


def unique_keys(model: type[models.Model]) -> list[set[str]]:
    """Return each set of columns that no two rows share, whatever stands in their others.

    One that may be empty tells nothing apart: rows that lack it are all level.
    """
    keys = [[field] for field in model._meta.concrete_fields if field.unique]
    keys += [
        [model._meta.get_field(name) for name in rule.fields]
        for rule in model._meta.constraints
        if isinstance(rule, models.UniqueConstraint) and rule.fields and rule.condition is None
    ]
    return [{field.attname for field in key} for key in keys if not any(field.null for field in key)]


def ordered_by(model: type[models.Model]) -> set[str]:
    names = (str(name).removeprefix("-") for name in model._meta.ordering)
    return {model._meta.pk.attname if name == "pk" else _column(model, name) for name in names}


def _column(model: type[models.Model], name: str) -> str:
    by_attname = {field.attname: field.attname for field in model._meta.concrete_fields}
    return by_attname.get(name) or model._meta.get_field(name).attname


@pytest.mark.parametrize("model", ORDERED, ids=lambda model: model.__name__)
def test_an_order_of_a_model_leaves_no_two_rows_level(model: type[models.Model]) -> None:
    columns = ordered_by(model)
    assert any(key <= columns for key in unique_keys(model)), f"{model._meta.ordering} leaves ties: end it with its key"
