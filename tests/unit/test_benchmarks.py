"""The benchmarks' arithmetic, and how it is shown. What is measured is for a quiet machine to say."""

import json
import re
import shutil
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import markdown, table
from benchmarks.figures import (
    HANDSHAKES,
    MEMORY_SERVER,
    RTT_IDLE,
    TCP_DOWN,
    TCP_FOUR,
    TCP_UP,
    UDP_LARGE,
    UDP_SMALL,
    Figure,
    Results,
)
from benchmarks.measure import FULL, QUICK
from benchmarks.plot import draw
from benchmarks.report import Report
from benchmarks.run import Plan
from benchmarks.search import highest_rate
from benchmarks.targets import Ratio, ratios
from benchmarks.tunnels import registry, strongswan
from benchmarks.udp import Trial

MACHINE: dict[str, str | int] = {
    "cpu": "a processor",
    "cores": 2,
    "kernel": "6.1",
    "python": "3.11",
    "congestion_control": "cubic",
    "date": "2026-01-01",
}


def found(name: str, title: str, **values: float) -> Results:
    """Three trials of each figure, of which the given value is the median."""
    figures = {
        figure.key: figure
        for figure in (TCP_UP, TCP_DOWN, TCP_FOUR, UDP_SMALL, UDP_LARGE, RTT_IDLE, MEMORY_SERVER, HANDSHAKES)
    }
    results = Results(name, title)
    for key, value in values.items():
        for factor in (1.5, 0.2, 1.0):
            results.add(figures[key], value * factor)
    return results


def everything() -> list[Results]:
    openvpn = found("openvpn", "OpenVPN", tcp_up=0.5, tcp_down=0.4, udp_64=40.0, udp_1300=30.0, rtt_idle=0.25)
    openvpn.notes["handshakes"] = "its handshake is TLS"
    openvpn.problems.append("four TCP flows: it ended")
    return [
        found(
            "espudp",
            "espudp",
            tcp_up=2.5,
            tcp_down=2.4,
            tcp_four=2.45,
            udp_64=50.0,
            udp_1300=60.0,
            rtt_idle=0.2,
            memory_server=60.0,
            handshakes=900.0,
        ),
        found("espudp-1000", "espudp, 1,000 SAs", tcp_up=2.0, memory_server=79.0),
        openvpn,
        found("ceiling", "I/O ceiling", tcp_up=10.0, tcp_down=6.0),
    ]


def report() -> Report:
    return Report(MACHINE, {"rounds": 3, "slow_rounds": 3}, {"wireguard-go": "wireguard-go"}, everything())


# Figures


def test_the_median_of_the_trials() -> None:
    results = found("espudp", "espudp", tcp_up=2.0)
    assert results.trials["tcp_up"] == [3.0, 0.4, 2.0]
    assert results.median(TCP_UP) == 2.0
    assert results.median(TCP_DOWN) is None


def test_json_has_every_trial_and_comes_back() -> None:
    data = json.loads(json.dumps(report().to_json()))
    assert data["tunnels"][0]["figures"]["tcp_up"] == {
        "unit": "Gbit/s",
        "median": 2.5,
        "trials": [3.75, 0.5, 2.5],
    }
    assert data["missing"] == {"wireguard-go": "wireguard-go"}
    assert Report.from_json(data) == report()


# Ratios


def by_what() -> dict[str, Ratio]:
    return {one.what: one for one in ratios(everything())}


@pytest.mark.parametrize(
    ("what", "ratio", "holds"),
    [
        ("espudp / OpenVPN: TCP up", 5.0, False),
        ("espudp / OpenVPN: TCP down", 6.0, True),
        ("espudp / I/O ceiling: TCP up", 0.25, False),
        ("espudp / I/O ceiling: TCP down", 0.4, True),
        ("espudp, 4 flows / 1", 0.98, True),
        ("espudp, 1,000 SAs / espudp: TCP up", 0.8, False),
        ("espudp, KB of memory for each further peer", 19000 / 999, True),
        ("espudp / OpenVPN: UDP, 64 octets", 1.25, True),
        ("espudp / OpenVPN: UDP, 1,300 octets", 2.0, True),
        ("espudp / OpenVPN: round trip, idle", 0.8, True),
    ],
)
def test_ratios(what: str, ratio: float, holds: bool) -> None:
    one = by_what()[what]
    assert one.found == pytest.approx(ratio)
    assert one.holds is holds


def test_what_was_not_measured_is_not_compared() -> None:
    assert not [what for what in by_what() if "strongSwan" in what or "wireguard" in what]
    assert "espudp, 1,000 SAs / espudp: TCP down" not in by_what()
    assert ratios([]) == []


def test_the_best_peer_is_the_one_to_beat() -> None:
    slow, fast = found("strongswan", "strongSwan", rtt_idle=0.5), found("openvpn", "OpenVPN", rtt_idle=0.2)
    (one,) = ratios([found("espudp", "espudp", rtt_idle=0.25), slow, fast])
    assert (one.what, one.found, one.holds) == ("espudp / OpenVPN: round trip, idle", 1.25, False)


def test_noise_is_allowed_for_only_where_the_ratio_says_so() -> None:
    assert Ratio("", 1.0, 0.98, noise=0.03).holds
    assert not Ratio("", 1.0, 0.98).holds
    assert Ratio("", 1.0, 1.02, at_most=True, noise=0.03).holds
    assert not Ratio("", 1.0, 1.02, at_most=True).holds
    assert Ratio("", 1.0, None).holds is None


# The search for a rate


@pytest.mark.parametrize("limit", [1_000.0, 9_000.0, 12_000.0, 30_000.0])
def test_the_highest_rate_is_found(limit: float) -> None:
    rate = highest_rate(lambda rate: rate <= limit, 10_000.0, steps=12)
    assert limit * 0.98 <= rate <= limit


def test_a_rate_is_one_that_was_carried() -> None:
    tried: list[tuple[float, bool]] = []

    def carried(rate: float) -> bool:
        tried.append((rate, len(tried) in (2, 3)))
        return tried[-1][1]

    rate = highest_rate(carried, 1000.0, steps=6)
    assert rate == max(rate for rate, worked in tried if worked) > 0
    assert [round(rate) for rate, _ in tried[:3]] == [1000, 500, 250]


def test_an_overrun_tunnel_may_carry_more_than_a_flood_brought_through() -> None:
    assert 3_900 < highest_rate(lambda rate: rate <= 4_000, 1_000.0, steps=12) <= 4_000


def test_nothing_is_carried() -> None:
    assert highest_rate(lambda _: False, 1000.0, steps=5) == 0.0
    assert highest_rate(lambda _: True, 0.0, steps=5) == 0.0


@pytest.mark.parametrize(
    ("trial", "carried"),
    [
        (Trial(1.0, 10_000, 10_000, 0.0), True),
        (Trial(1.0, 10_000, 9_991, 0.01), True),
        (Trial(1.0, 10_000, 9_985, 0.01), False),  # lost
        (Trial(1.0, 10_000, 10_000, 0.2), False),  # queued up
        (Trial(1.0, 9_000, 9_000, 0.0), False),  # the sender is the limit
    ],
)
def test_what_counts_as_carried(trial: Trial, carried: bool) -> None:
    assert trial.carried(10_000.0) is carried


def test_what_was_delivered_late_was_delivered_more_slowly() -> None:
    assert Trial(1.0, 30_000, 20_000, 1.0).delivered == 10_000
    assert Trial(1.0, 30_000, 20_000, -0.1).delivered == 20_000


# Choosing


def names(peers: str) -> list[str]:
    return [tunnel.name for tunnel in registry.choose(peers)]


def test_which_tunnels_run() -> None:
    assert names("ceiling,openvpn") == ["espudp", "openvpn", "ceiling"]
    assert names("espudp") == ["espudp"]
    assert all(name.startswith("espudp") for name in names("none"))
    assert set(names("all")) >= {"espudp", "strongswan", "strongswan-cbc", "openvpn", "wireguard", "ceiling"}


def test_an_unknown_name_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "absent", lambda *_: "")
    with pytest.raises(SystemExit, match="There is no tunnel called 'ipsec'; there are espudp, "):
        command.main(["--peers", "ipsec"])


def test_an_unknown_figure_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "tcp,speed"])
    assert "no such figures: speed" in capsys.readouterr().err


def test_every_figure_has_three_trials_in_a_full_run() -> None:
    plan = Plan(registry.choose("all"), ("tcp", "udp", "handshakes"), FULL)
    ours = next(tunnel for tunnel in plan.tunnels if tunnel.name == "espudp")
    assert FULL.rounds == FULL.slow_rounds == QUICK.rounds == 3
    for number in range(3):
        assert [step.title for step in plan.steps(ours, number)] == ["TCP, both ways", "UDP rates"]
        assert plan.shakes_hands(ours, number)


def test_progress_counts_every_step() -> None:
    plan = Plan(registry.choose("ceiling"), ("tcp", "udp", "handshakes"), QUICK)
    # Each turn's start and TCP; in one round UDP as well, and espudp's handshakes.
    assert plan.total() == 3 * 2 * 2 + 2 + 1


def test_what_is_not_asked_for_is_not_started() -> None:
    plan = Plan(registry.choose("ceiling"), ("handshakes",), QUICK)
    assert plan.total() == 1
    assert not any(plan.carries(tunnel, 0) for tunnel in plan.tunnels)


# Tables


def test_the_table_has_a_column_for_each_tunnel_and_a_dash_for_what_it_lacks() -> None:
    head, *lines = table.rows(everything())
    assert head == ["", "espudp", "espudp, 1,000 SAs", "OpenVPN", "I/O ceiling"]
    assert lines[0] == ["TCP up, Gbit/s", "2.50", "2.00", "0.50", "10.00"]
    assert lines[-1] == ["handshakes, 1/s", "900", "-", "-", "-"]


def test_a_dash_has_its_reason_and_a_failure_its_line() -> None:
    notes = table.footnotes(everything())
    assert notes == ["OpenVPN: no handshakes: its handshake is TLS", "OpenVPN: four TCP flows: it ended"]


def test_a_peer_that_is_missing_names_its_package() -> None:
    line = table.missing_line("wireguard-go", "wireguard-go")
    assert line == "wireguard-go is not installed, and left out: apt-get install wireguard-go"


def test_each_peer_knows_its_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(strongswan, "PLUGINS", tmp_path)
    monkeypatch.setattr(strongswan, "CHARON", str(tmp_path / "charon"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    missing = {tunnel.name: tunnel.missing() for tunnel in registry.choose("all")}
    assert missing["openvpn"] == "openvpn"
    assert missing["wireguard"] == "wireguard-go"
    assert missing["strongswan"].split() == [
        "strongswan-charon",
        "strongswan-swanctl",
        "libcharon-extra-plugins",
        "libstrongswan-standard-plugins",
    ]
    assert [name for name, packages in missing.items() if not packages] == [
        *("espudp", "espudp-1000", "espudp-workers", "espudp-cbc", "ceiling", "direct"),
    ]


def test_without_a_load_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SystemExit, match="apt-get install iperf3"):
        command.main([])


def test_the_heading_says_what_had_fewer_trials() -> None:
    quick = Report(MACHINE, {"rounds": 3, "slow_rounds": 1}, {}, [])
    assert quick.heading.endswith("medians of 3 trials (1 of UDP, handshakes and the loaded round trip)")
    assert report().heading.endswith("medians of 3 trials")


def test_ratios_as_lines() -> None:
    lines = table.ratio_rows(ratios(everything()))
    assert ["espudp / OpenVPN: TCP up", ">= 5.5", "5.00", "NO"] in lines
    assert ["espudp / OpenVPN: round trip, idle", "<= 1", "0.80", "yes"] in lines


def test_a_run_is_shown_again_from_its_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved, readme, plot = tmp_path / "run.json", tmp_path / "README.md", tmp_path / "plot.svg"
    saved.write_text(json.dumps(report().to_json()))
    readme.write_text(f"before\n{markdown.BEGIN}\nyesterday\n{markdown.END}\nafter\n")
    command.main(["--read", str(saved), "--markdown", str(readme), "--plot", str(plot)])
    out = capsys.readouterr().out
    assert "a processor, 2 cores, Linux 6.1, Python 3.11, TCP cubic, 2026-01-01; medians of 3 trials" in out
    assert "OpenVPN: no handshakes: its handshake is TLS" in out
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "yesterday" not in text
    assert "| TCP up, Gbit/s | 2.50 | 2.00 | 0.50 | 10.00 |" in text
    assert plot.stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--markdown README.md", "README.md lacks the marks"),
        ("--markdown nowhere.md", "There is no file nowhere.md."),
        ("--read nowhere.json", "There is no file nowhere.json."),
        ("--json nowhere/run.json", "There is no folder nowhere."),
        ("--plot nowhere/plot.svg", "There is no folder nowhere."),
        ("--plot plot.svg", "pip install '.[bench]'"),
    ],
)
def test_a_report_that_cannot_be_written_is_told_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    Path("README.md").write_text(f"{markdown.END}\n{markdown.BEGIN}\n")
    with pytest.raises(SystemExit, match=re.escape(said)):
        command.main(options.split())
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize("rounds", ["0", "-1", "many"])
def test_fewer_rounds_than_one(rounds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main([f"--rounds={rounds}"])
    assert "no number from 1 on" in capsys.readouterr().err


# The plot


def test_the_plot_shows_tunnels_and_values_as_text(tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    draw(everything(), path)
    text = path.read_text()
    assert text.startswith("<?xml")
    for word in ("espudp, 1,000 SAs", "OpenVPN", "I/O ceiling", "2.50", "10.00", "round trip, idle"):
        assert f">{word}</text>" in text


def test_the_same_figures_make_the_same_plot(tmp_path: Path) -> None:
    paths = tmp_path / "one.svg", tmp_path / "other.svg"
    for path in paths:
        draw(everything(), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_plot_of_little(tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    draw([found("espudp", "espudp", rtt_idle=0.2)], path)
    assert ">0.20</text>" in path.read_text()


def test_figures_have_keys_of_their_own() -> None:
    from benchmarks.figures import FIGURES

    assert len({figure.key for figure in FIGURES}) == len(FIGURES)
    assert all(isinstance(figure, Figure) for figure in FIGURES)
