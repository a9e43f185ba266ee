"""The reference of steps and connectors says what the models say."""

import re
from pathlib import Path
from types import UnionType
from typing import get_args

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from nomaflow.connectors import spec
from nomaflow.connectors.http import auth
from nomaflow.steps import registry

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `([\w.]+)` \| (.*?) \| (.*) \|$", re.MULTILINE)


def sections(page):
    text = (ROOT / "docs/reference" / page).read_text(encoding="utf-8")
    return dict(re.findall(r"^## `?(\w+)`?$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))


def rows(model, prefix=""):
    """Every setting of a model, with those of the models inside it."""
    found = {}
    for name, field in model.model_fields.items():
        shown = prefix + (field.alias or name)
        found[shown] = (default(field), field.description)
        or_none = get_args(field.annotation) if isinstance(field.annotation, UnionType) else ()
        for inner in (field.annotation, *or_none):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                found |= rows(inner, f"{shown}.")
    return found


def default(field):
    if field.is_required():
        return "required"
    value = field.default if field.default is not PydanticUndefined else field.default_factory()
    match value:
        case None | () | [] | {} | "":
            return "-"
        case bool():
            return f"`{str(value).lower()}`"
        case str():
            return f'`"{value}"`'
        case _:
            return f"`{value}`"


def table(found):
    lines = [f"| `{name}` | {value} | {words} |" for name, (value, words) in found.items()]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *lines])


def documented(section):
    return {name: (value, words) for name, value, words in ROW.findall(section)}


def test_every_step_type_has_its_heading():
    assert set(sections("steps.md")) >= {step.type_name for step in registry.OURS}


@pytest.mark.parametrize("step", registry.OURS, ids=lambda step: step.type_name)
def test_every_setting_of_a_step_is_documented(step):
    expected = rows(step)
    assert documented(sections("steps.md")[step.type_name]) == expected, table(expected)


@pytest.mark.parametrize(
    "model", [spec.SqlConnectorSpec, spec.HttpConnectorSpec, spec.LdapConnectorSpec]
)
def test_every_setting_of_a_connector_is_documented(model):
    kind = model.model_fields["kind"].default
    expected = rows(model)
    assert documented(sections("connectors.md")[kind]) == expected, table(expected)


def test_every_kind_of_credentials_is_documented():
    expected = {}
    for model in get_args(auth.AnyAuth):
        (kind,) = get_args(model.model_fields["type"].annotation)
        expected |= rows(model, f"{kind}.")
        del expected[f"{kind}.type"]
    assert documented(sections("connectors.md")["auth"]) == expected, table(expected)


@pytest.mark.parametrize(
    ("heading", "model"),
    [("queries", spec.NamedQuery), ("params", spec.QueryParam)],
)
def test_named_queries_are_documented(heading, model):
    expected = rows(model)
    assert documented(sections("connectors.md")[heading]) == expected, table(expected)
