"""The two ends of a UDP flow."""

from espudp.wire.address import Path, UdpAddress


def test_text_brackets_ipv6() -> None:
    path = Path(UdpAddress("192.0.2.1", 4500), UdpAddress("2001:db8::1", 500))
    assert str(path) == "192.0.2.1:4500 -> [2001:db8::1]:500"


def test_equal_paths_are_one_mapping() -> None:
    path = Path(UdpAddress("192.0.2.1", 4500), UdpAddress("192.0.2.2", 4500))
    assert path == Path(UdpAddress("192.0.2.1", 4500), UdpAddress("192.0.2.2", 4500))
    assert path != path._replace(remote=UdpAddress("192.0.2.2", 40001))
    assert len({path, path._replace(), path._replace(local=UdpAddress("192.0.2.3", 4500))}) == 2
