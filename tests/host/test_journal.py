"""The journal: on disk before the change, found by whoever comes after a kill."""

import json
import os
import stat
from pathlib import Path

import pytest

from espudp.errors import HostError
from espudp.host import journal as module
from espudp.host.changes import Change, Sysctl
from espudp.host.journal import Journal, runtime_directory
from espudp.host.netlink import DeviceAddress, Route, Rule

CHANGES: list[Change] = [
    DeviceAddress(7, "10.0.0.1/24", prefix_route=True),
    Route("10.1.0.0/16", 7, table=1000, source="10.0.0.1"),
    Rule(20_000, 254, "10.1.0.0/16", suppress_prefix=16),
    Rule(20_001, 1000, "::/0", unless_mark=0x2000_0000),
    Sysctl("net/ipv4/ip_forward", "1", "0"),
]


def _kill(journal: Journal) -> None:
    """What SIGKILL does: the lock is gone, the file is not."""
    journal.release()


def _abandoned(directory: Path) -> list[tuple[str, list[Change]]]:
    found = []
    for journal in Journal.abandoned(directory):
        found.append((journal.name, journal.changes))
        journal.release()
    return found


def test_every_kind_of_change_survives(tmp_path: Path) -> None:
    journal = Journal.claim(tmp_path, "esp0")
    for change in CHANGES:
        journal.record(change)
    journal.erase(CHANGES[1])
    _kill(journal)
    assert _abandoned(tmp_path) == [("esp0", [CHANGES[0], *CHANGES[2:]])]


def test_of_equal_changes_one_is_erased(tmp_path: Path) -> None:
    journal = Journal.claim(tmp_path, "esp0")
    journal.record(CHANGES[0])
    journal.record(CHANGES[0])
    journal.erase(CHANGES[0])
    _kill(journal)
    assert _abandoned(tmp_path) == [("esp0", [CHANGES[0]])]


def test_a_living_process_is_left_alone_and_its_name_is_taken(tmp_path: Path) -> None:
    first = Journal.claim(tmp_path, "esp0")
    first.record(CHANGES[0])
    second = Journal.claim(tmp_path, "esp0")
    third = Journal.claim(tmp_path, "esp0")
    assert [first.name, second.name, third.name] == ["esp0", "esp0-2", "esp0-3"]
    assert _abandoned(tmp_path) == []
    assert list(second.others()) == [CHANGES[0]]
    assert list(first.others()) == []
    first.remove()
    assert Journal.claim(tmp_path, "esp0").name == "esp0"


def test_a_name_is_free_again_when_nothing_is_left_to_undo(tmp_path: Path) -> None:
    _kill(Journal.claim(tmp_path, "esp0"))
    again = Journal.claim(tmp_path, "esp0")
    assert (again.name, again.changes) == ("esp0", [])
    assert again.owner["pid"] == os.getpid()
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_line_cut_off_counts_as_not_written(tmp_path: Path) -> None:
    journal = Journal.claim(tmp_path, "esp0")
    journal.record(CHANGES[0])
    journal.record(CHANGES[1])
    os.ftruncate(journal._fd, journal.path.stat().st_size - 5)
    _kill(journal)
    assert _abandoned(tmp_path) == [("esp0", [CHANGES[0]])]


def test_a_journal_of_another_network_namespace_is_not_ours_to_undo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = module._here()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_here", lambda: {**here, "namespace": "elsewhere"})
        journal = Journal.claim(tmp_path, "esp0")
        journal.record(CHANGES[0])
    own = Journal.claim(tmp_path, "esp1")
    assert list(own.others()) == []
    _kill(journal)
    assert _abandoned(tmp_path) == []
    assert Journal.claim(tmp_path, "esp0").name == "esp0-2"
    assert journal.path.exists()


def test_a_journal_from_before_a_restart_of_the_machine_is_void(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = module._here()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_here", lambda: {**here, "boot": "an earlier one"})
        journal = Journal.claim(tmp_path, "esp0")
        journal.record(CHANGES[0])
    _kill(journal)
    assert _abandoned(tmp_path) == []
    assert not journal.path.exists()


def test_the_file_is_for_its_owner_alone_and_one_line_a_change(tmp_path: Path) -> None:
    journal = Journal.claim(tmp_path, "esp0")
    journal.record(CHANGES[0])
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    header, made = map(json.loads, journal.path.read_text().splitlines())
    assert set(header) == {"pid", "started", "namespace", "boot"}
    assert made["made"]["kind"] == "address"
    journal.remove()


def test_the_runtime_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ESPUDP_RUNTIME_DIR", raising=False)
    assert runtime_directory() == Path("/run/espudp")
    monkeypatch.setenv("ESPUDP_RUNTIME_DIR", str(tmp_path / "a" / "b"))
    assert runtime_directory(create=True).is_dir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("ESPUDP_RUNTIME_DIR", str(tmp_path / "file"))
    with pytest.raises(HostError, match="could not be made") as caught:
        runtime_directory(create=True)
    assert "ESPUDP_RUNTIME_DIR" in caught.value.remedy
