"""What `nomaflow connector` asks of the API, word for word; tests check it against the schema."""

CONNECTORS = """
query Connectors {
  connectors {
    name kind origin revision secretNames jobs lastTest { ok at milliseconds message }
  }
}
"""

CONNECTOR = """
query Connector($name: String!) {
  connector(name: $name) {
    name kind origin revision settings secretNames
    queries { name operation sql description params }
  }
}
"""

_SAVED = "connector { name kind revision settings secretNames } errors { code message path }"

CREATE = f"""
mutation ConnectorCreate($input: ConnectorInput!) {{
  connectorCreate(input: $input) {{ {_SAVED} }}
}}
"""

UPDATE = f"""
mutation ConnectorUpdate($input: ConnectorInput!) {{
  connectorUpdate(input: $input) {{ {_SAVED} }}
}}
"""

DELETE = """
mutation ConnectorDelete($name: String!) {
  connectorDelete(name: $name) { deleted errors { code message path } }
}
"""

TEST = """
mutation ConnectorTest($name: String!) {
  connectorTest(name: $name) {
    test { ok at milliseconds message }
    errors { code message path }
  }
}
"""

ALL = (CONNECTORS, CONNECTOR, CREATE, UPDATE, DELETE, TEST)
