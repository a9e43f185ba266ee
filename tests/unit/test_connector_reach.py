import pytest

from nomaflow.connectors import reach, secret_fields, spec


@pytest.mark.parametrize(
    ("table", "hosts"),
    [
        ({"kind": "sql", "url": "postgresql://u:p@a:5432,b/d?host=c"}, ["a", "b", "c"]),
        ({"kind": "sql", "url": "mysql://u:p%40x@[::1]:3306/d"}, ["::1"]),
        ({"kind": "sql", "url": "mysql://2130706433/d"}, ["2130706433"]),
        ({"kind": "sql", "driver": "mysql", "host": "a"}, ["a"]),
        ({"kind": "sql", "url": "sqlite:///a.db"}, []),
        ({"kind": "http", "url": "https://a:8443/v1", "proxy": "http://p:1"}, ["a", "p"]),
        ({"kind": "ldap", "url": "ldaps://a:636"}, ["a"]),
    ],
)
def test_the_hosts_of_a_connector(table, hosts):
    assert list(reach.hosts(spec.parse(table))) == hosts


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"url": "mysql://a/d"}, {"url": "mysql://a/e"}, True),
        ({"url": "mysql://a/d"}, {"url": "mysql://u:${secret:p}@a/d"}, True),
        ({"url": "mysql://a/d"}, {"url": "mysql://b/d"}, False),
        ({"url": "mysql://a/d"}, {"url": "mysql://a:3307/d"}, False),
        ({"url": "mysql://a/d"}, {"url": "mysql://a@b/d"}, False),
        ({"url": "https://a"}, {"url": "http://a"}, False),
        ({"url": "${env:URL}"}, {"url": "${env:OTHER}"}, False),
        ({"host": "a", "port": 1}, {"host": "a", "port": 2}, False),
        ({"host": "a", "pool_size": 1}, {"host": "a", "pool_size": 2}, True),
        ({"url": "https://a"}, {"url": "https://a", "proxy": "http://p"}, False),
    ],
)
def test_where_secrets_go(one, other, same):
    assert (reach.destination(one) == reach.destination(other)) is same


@pytest.mark.parametrize(
    ("table", "places"),
    [
        ({"password": "plain"}, [("password",)]),
        ({"password": "${secret:x}"}, []),
        ({"password": "pre${env:X}"}, []),
        ({"auth": {"type": "bearer", "token": "plain"}}, [("auth", "token")]),
        ({"headers": {"X-Api-Key": "plain", "X-Tenant": "acme"}}, [("headers", "X-Api-Key")]),
        ({"headers": {"Authorization": "Bearer ${secret:t}"}}, []),
        ({"url": "mysql://u:plain@h/d"}, [("url",)]),
        ({"url": "mysql://u:${secret:p}@h/d"}, []),
        ({"url": "mysql://${secret:u}:plain@h/d"}, [("url",)]),
        ({"url": "https://h/a:b@c"}, []),
        ({"proxy": "http://u:plain@p"}, [("proxy",)]),
    ],
)
def test_secrets_in_plain_are_found(table, places):
    assert [place for place, _ in secret_fields.in_plain(table)] == places
