"""Secret files: made for their owner alone, refused when others can read them."""

import os
import stat
from pathlib import Path

import pytest

from espudp.errors import ConfigError, HostError
from espudp.host import keyfiles


def secret(path: Path, content: bytes = b"s3cret-of-ours\n", mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_psk_is_read_without_the_white_space_around_it(tmp_path: Path) -> None:
    assert keyfiles.read_psk(secret(tmp_path / "psk", b"  two words\r\n")) == b"two words"


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist") as caught:
        keyfiles.read_psk(tmp_path / "psk")
    assert "copy it from the other host" in caught.value.remedy


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o610])
def test_a_file_that_others_can_touch(tmp_path: Path, mode: int) -> None:
    path = secret(tmp_path / "psk", mode=mode)
    with pytest.raises(ConfigError, match=f"accessible to others \\(mode {mode:04o}\\)") as caught:
        keyfiles.read_psk(path)
    assert caught.value.remedy == f"Make it its owner's alone: chmod 600 {path}"
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_empty_or_no_file_or_far_too_long(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is empty"):
        keyfiles.read_psk(secret(tmp_path / "empty", b" \n"))
    with pytest.raises(ConfigError, match="is a directory"):
        keyfiles.read_psk(tmp_path)
    with pytest.raises(ConfigError, match="more than 65536 octets"):
        keyfiles.read_psk(secret(tmp_path / "long", b"x" * 65537))


def test_a_psk_is_made_strong_private_and_once(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "psk"
    psk, made = keyfiles.obtain_psk(path)
    assert made
    assert len(psk) == 43  # 32 octets in base64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert keyfiles.obtain_psk(path) == (psk, False)
    assert keyfiles.obtain_psk(tmp_path / "other")[0] != psk
    assert os.listdir(path.parent) == ["psk"]


def test_a_psk_that_starts_with_a_dash_is_never_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be taken for an option in the line that `espudp listen` prints."""
    draws = iter([b"\xf8" * 32, b"\x00" * 32])
    monkeypatch.setattr(os, "urandom", lambda octets: next(draws))
    assert keyfiles.obtain_psk(tmp_path / "psk")[0] == b"A" * 43


def test_writing_overwrites_only_when_told_to(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    keyfiles.write_secret(path, b"one")
    with pytest.raises(ConfigError, match="exists already"):
        keyfiles.write_secret(path, b"two")
    assert path.read_bytes() == b"one"
    keyfiles.write_secret(path, b"two", overwrite=True)
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.toml"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    secret(tmp_path / "file")
    with pytest.raises(HostError, match="could not be written"):
        keyfiles.write_secret(tmp_path / "file" / "psk", b"x")


def test_a_listener_has_one_secret_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keyfiles.CONFIG_VARIABLE, str(tmp_path / "etc"))
    first = keyfiles.obtain_secret("espudp0")
    assert len(first) == 32
    assert keyfiles.obtain_secret("espudp0") == first
    assert keyfiles.obtain_secret("espudp1") != first
    path = tmp_path / "etc" / "secret-espudp0"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="accessible to others"):
        keyfiles.obtain_secret("espudp0")


def test_the_default_file_can_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(keyfiles.CONFIG_VARIABLE, raising=False)
    assert keyfiles.default_psk_file() == Path("/etc/espudp/psk")
    monkeypatch.setenv(keyfiles.CONFIG_VARIABLE, "/somewhere")
    assert keyfiles.default_psk_file() == Path("/somewhere/psk")
