"""API keys in a real database: made, checked, rotated, revoked, expired."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from service.keys import repository
from service.keys.service import create_key, key_authenticator, revoke_key, rotate_key
from service.keys.tables import ApiKey
from service.kit.auth import TENANT_SCOPES
from service.kit.database import Database


def make(database: Database, **options: object) -> str:
    with database.write() as session:
        return create_key(session, **{"tenant": "acme", "scopes": ["all"], **options}).text  # type: ignore[arg-type]


def prefix_of(text: str) -> str:
    return text.split("_")[1]


def test_a_new_key_authenticates_its_tenant_with_its_scopes(database: Database) -> None:
    principal = key_authenticator(database)(make(database))
    assert principal is not None
    assert (principal.tenant, principal.scopes, principal.operator) == ("acme", TENANT_SCOPES, False)


def test_the_secret_is_nowhere_in_the_row(database: Database) -> None:
    text = make(database)
    with database.read() as session:
        row = session.scalars(select(ApiKey)).one()
    assert text[12:] not in " ".join(str(value) for value in vars(row).values())


def test_a_known_prefix_with_another_secret_is_nobody(database: Database) -> None:
    text = make(database)
    assert key_authenticator(database)(text[:12] + "x" * 43) is None


def test_an_unknown_key_is_nobody(database: Database) -> None:
    assert key_authenticator(database)("lk_abcdefgh_" + "x" * 43) is None


def test_a_revoked_key_is_nobody_at_once(database: Database) -> None:
    text = make(database)
    with database.write() as session:
        revoke_key(session, prefix_of(text))
    assert key_authenticator(database)(text) is None


def test_an_expired_key_is_nobody(database: Database) -> None:
    text = make(database, lifetime=timedelta(days=1))
    authenticate = key_authenticator(database)
    assert authenticate(text) is not None
    with database.write() as session:
        key = repository.find_valid(session, prefix_of(text))
        assert key is not None
        repository.expire(session, key, -timedelta(seconds=1))
    assert authenticate(text) is None


def test_after_a_rotation_both_keys_work_and_the_old_one_ends(database: Database) -> None:
    old = make(database, scopes=["pool:write"], operator=True)
    with database.write() as session:
        new = rotate_key(session, prefix_of(old), overlap=timedelta(hours=1)).text
    authenticate = key_authenticator(database)
    old_principal, new_principal = authenticate(old), authenticate(new)
    assert old_principal is not None
    assert new_principal is not None
    assert new_principal.scopes == old_principal.scopes == {"pool:write"}
    with database.read() as session:
        ends = {key.prefix: key.expires_at for key in repository.list_keys(session, "acme")}
    assert ends[prefix_of(old)] is not None
    assert ends[prefix_of(new)] is None


def test_a_rotation_does_not_lengthen_the_life_of_the_old_key(database: Database) -> None:
    old = make(database, lifetime=timedelta(minutes=1))
    with database.write() as session:
        before = repository.list_keys(session, "acme")[0].expires_at
        rotate_key(session, prefix_of(old), overlap=timedelta(hours=1))
    with database.read() as session:
        assert repository.list_keys(session, "acme")[0].expires_at == before


def test_revoking_or_rotating_what_is_not_there_says_so(database: Database) -> None:
    with database.write() as session:
        with pytest.raises(LookupError, match="nosuchky"):
            revoke_key(session, "nosuchky")
        with pytest.raises(LookupError, match="nosuchky"):
            rotate_key(session, "nosuchky")


def test_keys_are_listed_by_tenant(database: Database) -> None:
    make(database, tenant="acme")
    make(database, tenant="other")
    with database.read() as session:
        assert [key.tenant for key in repository.list_keys(session, "other")] == ["other"]
        assert len(repository.list_keys(session)) == 2


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tenant": "no spaces"}, "tenant"),
        ({"tenant": ""}, "tenant"),
        ({"scopes": ["nonsense"]}, "nonsense"),
        ({"scopes": ["pool:write"]}, "pool:write"),
        ({"lifetime": timedelta()}, "lifetime"),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_stores_nothing(
    database: Database, options: dict[str, object], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        make(database, **options)
    with database.read() as session:
        assert repository.list_keys(session) == []
