"""The configuration that xl2tpd gets: what it says, and whose files it leaves alone."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from espudp.errors import ConfigError, HostError
from espudp.host.l2tp import CONF, OPTIONS, client_files, server_files, write_files

POOL = IPv4Network("10.99.0.0/24")


def test_the_servers_files(tmp_path: Path) -> None:
    files = server_files(tmp_path, POOL, ("192.0.2.53", "192.0.2.54"))
    conf, options = files[CONF].splitlines(), files[OPTIONS].splitlines()
    assert {"local ip = 10.99.0.1", "ip range = 10.99.0.2-10.99.0.254"} <= set(conf)
    assert f"pppoptfile = {tmp_path / OPTIONS}" in conf
    assert {"auth", "require-mschap-v2", "ms-dns 192.0.2.53", "ms-dns 192.0.2.54"} <= set(options)


def test_the_clients_files(tmp_path: Path) -> None:
    files = client_files(tmp_path, "vpn.example.com", "alice")
    assert "lns = vpn.example.com" in files[CONF].splitlines()
    assert {"user alice", "noauth", "refuse-pap"} <= set(files[OPTIONS].splitlines())


@pytest.mark.parametrize("name", ["", "a b", "a\nplugin x.so", 'a"b', "a#b"])
def test_names_that_would_be_more_than_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        client_files(tmp_path, "192.0.2.1", name)


def test_a_pool_without_room(tmp_path: Path) -> None:
    server_files(tmp_path, IPv4Network("10.99.0.0/30"))
    with pytest.raises(ConfigError, match="no addresses"):
        server_files(tmp_path, IPv4Network("10.99.0.0/31"))


def test_files_are_written_again(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    for pool in (POOL, IPv4Network("10.98.0.0/24")):
        files = server_files(folder, pool)
        write_files(folder, files)
        assert {path.name: path.read_text() for path in folder.iterdir()} == files


@pytest.mark.parametrize("name", [CONF, OPTIONS])
def test_a_file_of_somebody_else_stays(tmp_path: Path, name: str) -> None:
    theirs = "# mine\n; Written by espudp\n"
    (tmp_path / name).write_text(theirs)
    with pytest.raises(ConfigError, match=name):
        write_files(tmp_path, server_files(tmp_path, POOL))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, theirs)]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="could not be written"):
        write_files(tmp_path / "file", server_files(tmp_path, POOL))
