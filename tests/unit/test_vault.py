import pytest
from cryptography.fernet import Fernet

from nomaflow.errors import Code, NomaflowError
from nomaflow.vault import Vault, split

OLD, NEW = "an old key of sixteen", "a new key of sixteen"
SECRETS = {"password": "p@ss/wörd", "token": "x" * 5000}


@pytest.mark.parametrize(
    "key",
    [OLD, Fernet.generate_key().decode(), "ключ-длиннее-16-букв"],
    ids=["words", "fernet", "letters"],
)
def test_what_is_sealed_opens_again_and_shows_nothing(key):
    vault = Vault.of(key)
    sealed = vault.seal("shop", SECRETS)
    assert vault.open("shop", sealed) == SECRETS
    assert not any(secret in sealed for secret in SECRETS.values())
    assert sealed != vault.seal("shop", SECRETS)
    assert key not in repr(vault)


def test_the_first_key_seals_and_each_opens():
    sealed = Vault.of(OLD).seal("shop", SECRETS)
    both = Vault.of(f"{NEW}, {OLD},")
    assert both.open("shop", sealed) == SECRETS
    assert (both.is_current(sealed), Vault.of(OLD).is_current(sealed)) == (False, True)
    assert Vault.of(NEW).open("shop", both.seal("shop", SECRETS)) == SECRETS
    assert split(f"{NEW}, {OLD},") == (NEW, OLD)


@pytest.mark.parametrize("owner", ["other", "Shop", ""])
def test_nobody_else_opens_it(owner):
    vault = Vault.of(OLD)
    with pytest.raises(NomaflowError) as caught:
        vault.open(owner, vault.seal("shop", SECRETS))
    assert caught.value.code is Code.INVALID_STATE


@pytest.mark.parametrize("sealed", ["", "gAAAAA", "é", "x" * 100_000])
def test_what_was_never_sealed_is_refused(sealed):
    with pytest.raises(NomaflowError, match="NOMAFLOW_SECRET_KEY does not hold"):
        Vault.of(OLD).open("shop", sealed)


def test_a_changed_byte_is_noticed():
    sealed = Vault.of(OLD).seal("shop", SECRETS)
    for place in range(10, len(sealed), 997):
        other = "A" if sealed[place] != "A" else "B"
        with pytest.raises(NomaflowError):
            Vault.of(OLD).open("shop", sealed[:place] + other + sealed[place + 1 :])


def test_without_a_key_nothing_is_sealed():
    with pytest.raises(NomaflowError, match="NOMAFLOW_SECRET_KEY is not set"):
        Vault.of(None).seal("shop", SECRETS)
