"""Whatever our own clients send is valid against the schema that is printed from the code."""

from pathlib import Path

import pytest
from graphql import build_schema, parse, validate

from nomaflow.cli import clock_documents, connector_documents, documents

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "services" / "api" / "console" / "src" / "examples"


@pytest.fixture(scope="module")
def schema():
    return build_schema((REPOSITORY / "schema.graphql").read_text())


SENT = (*documents.ALL, *connector_documents.ALL, *clock_documents.ALL)


@pytest.mark.parametrize("document", SENT, ids=lambda text: " ".join(text.split()[:2]))
def test_what_the_command_line_sends_is_valid(schema, document):
    assert validate(schema, parse(document)) == []


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.graphql")), ids=lambda file: file.stem)
def test_the_examples_of_graphiql_are_valid(schema, file):
    assert validate(schema, parse(file.read_text())) == []


def test_the_examples_are_all_there():
    assert len(list(EXAMPLES.glob("*.graphql"))) == 4
