"""The schema is the code's, the documentation names every refusal, and both are served without a warning."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer
from drf_spectacular.validation import validate_schema

from marketplace.api.docs import SCHEMA
from marketplace.api.reference import list_refusals


@pytest.fixture(scope="module")
def made() -> bytes:
    GENERATOR_STATS.reset()
    schema = SchemaGenerator().get_schema(request=None, public=True)
    return OpenApiYamlRenderer().render(schema, renderer_context={})


@pytest.fixture(scope="module")
def document(made: bytes) -> dict[str, Any]:
    return yaml.load(made, Loader=yaml.CSafeLoader)  # type: ignore[no-any-return]


def test_the_committed_schema_is_the_codes(made):
    """Make it anew with: python manage.py spectacular --file marketplace/api/openapi.yaml"""
    assert made == SCHEMA.read_bytes()


def test_the_schema_is_made_without_a_warning_and_is_valid(document):
    assert not GENERATOR_STATS
    validate_schema(document)


def test_every_reference_in_the_schema_leads_somewhere(made, document):
    for ref in set(re.findall(r"#/components/[A-Za-z/]+", made.decode())):
        part = document
        for name in ref.removeprefix("#/").split("/"):
            part = part[name]


def test_every_operation_names_its_refusals(document):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["operationId"]
            assert {"4XX", "5XX"} <= set(operation["responses"]), path
            assert operation["summary"]
            if method == "post":
                header = next(p for p in operation["parameters"] if p["name"] == "Idempotency-Key")
                assert header["required"] is True


def test_the_docs_page_and_schema_are_served(client, db):
    page, script = client.get("/api/docs/"), client.get("/api/docs/?script=")

    assert page.status_code == script.status_code == 200
    assert "swagger-ui-bundle.js" in page.content.decode()
    assert not re.findall(r"<script>|<style|https?://", page.content.decode())
    assert "application/javascript" in script.headers["Content-Type"]
    assert client.get("/api/openapi.yaml").content == SCHEMA.read_bytes()


def test_the_type_of_a_problem_leads_to_its_meaning(client, db):
    everything = client.get("/problems/").content.decode()

    for line in list_refusals():
        assert line.code in everything
    assert "demand_first" in client.get("/problems/demand_first").content.decode()
    assert client.get("/problems/no_such_code").status_code == 404
