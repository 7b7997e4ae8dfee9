"""What a test may require of the machine, said with a marker, and what happens where it is missing.

Away from CI a test whose requirement is missing skips, with the reason. In CI (`CI=true`) it fails, and so
does the whole run if anything else was skipped: a skip that nobody reads shows nothing.
"""

import os
import shutil
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

from tests.interop.matrix import MARKERS, Matrix
from tests.shared_vectors import IN_CI

# How long one example takes depends on what else the machine does.
settings.register_profile("espudp", deadline=None)
settings.load_profile("espudp")


def _root() -> str:
    return "" if os.geteuid() == 0 else "needs root"


def _tun() -> str:
    if _root():
        return "needs root to make TUN devices"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"needs TUN devices: /dev/net/tun: {error.strerror}"
    return ""


def _program(package: str, *names: str) -> Callable[[], str]:
    def missing() -> str:
        absent = [name for name in names if shutil.which(name) is None]
        return f"needs {', '.join(absent)} (apt-get install {package})" if absent else ""

    return missing


def _strongswan() -> str:
    plugins = Path("/usr/lib/ipsec/plugins")
    wanted = {
        "strongswan-charon": Path("/usr/lib/ipsec/charon"),
        "strongswan-swanctl": plugins / "libstrongswan-vici.so",
        "libcharon-extra-plugins": plugins / "libstrongswan-kernel-libipsec.so",
        "libstrongswan-standard-plugins": plugins / "libstrongswan-openssl.so",
        "libstrongswan-extra-plugins": plugins / "libstrongswan-chapoly.so",
    }
    absent = [package for package, path in wanted.items() if not path.exists()]
    if absent:
        return f"needs strongSwan (apt-get install {' '.join(absent)})"
    return "" if find_spec("vici") else "needs the Python package vici (pip install '.[test]')"


def _libreswan() -> str:
    path = Path(os.environ.get("ESPUDP_LIBRESWAN", "/opt/libreswan"))
    if not (path / "usr/libexec/ipsec/pluto").exists():
        return (
            f"needs libreswan's package unpacked in {path} (it refuses to be beside strongSwan; see .ci/run)"
        )
    return _program("gcc libc6-dev libnss3-tools", "cc", "certutil")()


# Where .ci/run unpacks it: its package, installed, would take /etc/resolv.conf over.
UNPACKED_RESOLVED = Path("/opt/systemd-resolved")


def resolved_root() -> Path:
    """What /lib/systemd/systemd-resolved and /usr/bin/resolvectl lie below."""
    return next((r for r in (Path("/"), UNPACKED_RESOLVED) if (r / "usr/bin/resolvectl").exists()), Path("/"))


def _resolved() -> str:
    if not (resolved_root() / "lib/systemd/systemd-resolved").exists():
        return f"needs systemd-resolved in {UNPACKED_RESOLVED} (apt-get download, dpkg-deb -x)"
    return _program("dbus util-linux", "dbus-daemon", "unshare", "nsenter")()


# marker -> (what `pytest --markers` says, what is missing here or "")
REQUIREMENTS: dict[str, tuple[str, Callable[[], str]]] = {
    "root": ("runs as root only", _root),
    "tun": ("makes TUN devices: root and /dev/net/tun", _tun),
    "tshark": ("lets tshark judge what went over the wire", _program("tshark", "tshark")),
    "namespaces": (
        "makes network namespaces with ip and NAT with nft",
        _program("iproute2 nftables util-linux", "ip", "nft", "unshare"),
    ),
    "conntrack": ("looks into the kernel's NAT", _program("conntrack", "conntrack")),
    "freeradius": ("has FreeRADIUS decide on logins", _program("freeradius", "freeradius")),
    "resolved": ("starts a systemd-resolved of its own", _resolved),
    "iperf3": ("measures with iperf3", _program("iperf3", "iperf3")),
    "libreswan": ("speaks IKE with libreswan", _libreswan),
    "openiked": (
        "speaks IKE with openiked",
        _program("openiked openssl gcc libc6-dev", "iked", "openssl", "cc"),
    ),
    "xl2tpd": (
        "has xl2tpd and pppd run over it",
        _program("xl2tpd ppp gcc libc6-dev", "xl2tpd", "pppd", "cc"),
    ),
    "vpnc": ("is called by vpnc", _program("vpnc", "vpnc")),
    "ike_scan": ("is probed by ike-scan", _program("ike-scan", "ike-scan")),
    "cc": ("compiles what a peer is made to believe", _program("gcc libc6-dev", "cc")),
    "strongswan": ("talks to strongSwan with kernel-libipsec", _strongswan),
}


@cache
def missing(marker: str) -> str:
    return REQUIREMENTS[marker][1]()


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    # Here and not in tests/interop: what lies there is not loaded by the process that gathers the reports of
    # those that run the tests (`-n N`).
    config.pluginmanager.register(Matrix(), "interop-matrix")
    for marker, (meaning, _) in REQUIREMENTS.items():
        config.addinivalue_line("markers", f"{marker}: {meaning}")
    config.addinivalue_line("markers", "xdist_group(name): tests that one process of several runs")


# What each test covers is not measured here, since it makes Python two to three times slower: these tests do
# again what the others do, many times and with generated input, or in other processes.
_NOT_MEASURED = ("tests/property/", "tests/fuzz/", "tests/scenario/", "tests/host/", "tests/interop/")

# Their tests take the machine for their own, beside those that only compute: namespaces, devices, time.
_ON_THE_MACHINE = ("tests/host/", "tests/interop/", "tests/unit/test_limits")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks for `--cov`, and for `-n N --dist loadgroup`: one process has all that needs the machine."""
    for item in items:
        if item.nodeid.startswith(_NOT_MEASURED):
            item.add_marker(pytest.mark.no_cover)
        if item.nodeid.startswith(_ON_THE_MACHINE) or any(map(item.get_closest_marker, REQUIREMENTS)):
            item.add_marker(pytest.mark.xdist_group("machine"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in REQUIREMENTS:
        if item.get_closest_marker(marker) and (reason := missing(marker)):
            if IN_CI:
                pytest.fail(f"missing in CI: {reason}", pytrace=False)
            pytest.skip(reason)


def _skipped(session: pytest.Session) -> int:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    return len(reporter.stats.get("skipped", ())) if reporter else 0


def pytest_sessionfinish(session: pytest.Session, exitstatus: int | pytest.ExitCode) -> None:
    if IN_CI and _skipped(session) and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if IN_CI and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("In CI a skipped test is a failure.", red=True)
