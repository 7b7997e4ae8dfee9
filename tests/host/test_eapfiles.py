"""Files of EAP: users, passwords and secrets, which nobody else may read."""

from pathlib import Path

import pytest

from espudp.errors import ConfigError
from espudp.host import eapfiles


def secret(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_users(tmp_path: Path) -> None:
    users = eapfiles.read_users(secret(tmp_path / "users", b"alice:sesame\n"))
    user, known = users.find(b"alice")
    assert known
    assert user.has_password(b"sesame")
    assert not eapfiles.no_users().find(b"alice")[1]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_files_that_others_can_read(tmp_path: Path, mode: int) -> None:
    path = secret(tmp_path / "file", b"alice:sesame\n", mode)
    for read in (eapfiles.read_users, eapfiles.read_password, lambda path: eapfiles.read_radius(["h"], path)):
        with pytest.raises(ConfigError, match="accessible to others") as error:
            read(path)
        assert "chmod 600" in error.value.remedy


@pytest.mark.parametrize(
    ("content", "password"), [(b"sesame", "sesame"), (b" open sesame \n", " open sesame "), (b"x\r\n", "x")]
)
def test_passwords(tmp_path: Path, content: bytes, password: str) -> None:
    assert eapfiles.read_password(secret(tmp_path / "password", content)) == password


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"\xff\xfe", b"a" * 257])
def test_files_without_a_password(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match="the password file"):
        eapfiles.read_password(secret(tmp_path / "password", content))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("radius.example.org", "radius.example.org", 1812),
        ("192.0.2.5:1645", "192.0.2.5", 1645),
        ("2001:db8::5", "2001:db8::5", 1812),
        ("[2001:db8::5]", "2001:db8::5", 1812),
        ("[2001:db8::5]:1645", "2001:db8::5", 1645),
    ],
)
def test_radius_servers(tmp_path: Path, text: str, host: str, port: int) -> None:
    (server,) = eapfiles.read_radius([text], secret(tmp_path / "secret", b"between us\n"))
    assert (server.host, server.port, server.secret) == (host, port, b"between us")
    assert "between" not in repr(server)


@pytest.mark.parametrize("text", ["", ":1812", "host:", "host:0", "host:65536", "host:radius"])
def test_what_is_no_server(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="is not a server"):
        eapfiles.read_radius([text], secret(tmp_path / "secret", b"between us\n"))


def test_no_secret(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no secret"):
        eapfiles.read_radius(["host"], secret(tmp_path / "secret", b"\n"))
