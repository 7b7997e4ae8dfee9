"""The file of users: what it may say, and that what it says wrong is told without its secrets."""

import pytest

from espudp.errors import ConfigError
from espudp.ike.eap.users import User, UserTable, parse_users
from tests.unit.ike.eap.talk import chance

HASH = "44ebba8d5312b8d611474411f56989ae"  # of clientPass, RFC 2759 section 9.2


def test_a_file_of_users() -> None:
    content = f"# who may come in\n\nalice: with space and : colon \nCORP\\bob:$NT${HASH}\n  carol :ü\n"
    assert parse_users(content.encode()) == (
        User.of_password("alice", " with space and : colon "),
        User.of_nt_hash("CORP\\bob", bytes.fromhex(HASH)),
        User.of_password("carol", "ü"),
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# nobody\n",
        b"alice\n",
        b"alice:\n",
        b":sesame\n",
        b"alice:sesame\nalice:sesame2\n",
        b"a" * 254 + b":sesame\n",
        b"alice:" + b"sesame" * 50 + b"\n",
        b"alice:$NT$sesame\n",
        b"alice:$NT$5e5a4e\n",
        b"alice:sesame\xff\n",
    ],
)
def test_files_that_are_wrong(content: bytes) -> None:
    with pytest.raises(ConfigError) as error:
        parse_users(content)
    assert error.value.remedy
    assert "sesame" not in str(error.value) + error.value.remedy
    # what was being read is no part of what is printed either
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_an_nt_hash_is_that_of_the_password() -> None:
    assert User.of_password("x", "clientPass").nt_hash == bytes.fromhex(HASH)
    assert User.of_nt_hash("x", bytes.fromhex(HASH)).has_password(b"clientPass")
    assert not User.of_nt_hash("x", bytes.fromhex(HASH)).has_password(b"clientpass")


def test_users_are_found_by_name_and_by_account() -> None:
    users = UserTable(parse_users(f"bob:one\nCORP\\bob:$NT${HASH}\n".encode()), chance())
    assert users.find(b"bob")[0].password == b"one"
    assert users.find(b"CORP\\bob")[0].password is None
    assert users.find(b"OTHER\\bob")[0].password == b"one"
    nobody, known = users.find(b"BOB")
    assert not known
    assert not nobody.has_password(b"")
    assert "one" not in repr(users.find(b"bob"))
