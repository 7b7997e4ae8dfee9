"""A peer of ours as a process: options as JSON in the one argument, reports as lines on standard output."""

import json
import os
import sys
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytun

from espudp import tunnel
from espudp.errors import EspudpError
from espudp.host import nftables, rawesp, steering, tun, udp, workers
from espudp.host.options import ConnectOptions, ListenOptions, ManualOptions, Report
from espudp.host.run import run_connect, run_listen, run_manual
from espudp.ike.config import (
    DYNAMIC,
    ChildConfig,
    ConnectionConfig,
    Encapsulation,
    Identity,
    ListenerConfig,
    Mode,
    Timers,
)
from espudp.ike.credentials import Psk, PskOf
from espudp.ike.ikev1_config import Ikev1Config, Ikev1Policy, NatTraversal
from espudp.ike.ikev1_config import Mode as IkeMode
from espudp.ike.narrowing import Dynamic
from espudp.ike.pad import PadEntry
from espudp.ike.proposals import DEFAULT_ESP_PROPOSALS, DEFAULT_IKE_PROPOSALS, EspProposal, IkeProposal
from espudp.manual import parse_manual
from espudp.wire.selectors import ALL_PORTS, TrafficSelector

POOL = ["10.99.0.0/24"]
NOBODY = 65534
PSK = "correct horse battery staple"


def report(said: Report) -> None:
    print(f"{said.severity.value}: {said.text} | {said.remedy}", flush=True)


def _selectors(networks: list[str]) -> tuple[TrafficSelector, ...]:
    return tuple(TrafficSelector.from_network(network) for network in networks)


def _ike(options: dict[str, Any]) -> tuple[IkeProposal, ...]:
    return tuple(map(IkeProposal.parse, options.get("ike", []))) or DEFAULT_IKE_PROPOSALS


def _esp(options: dict[str, Any]) -> tuple[EspProposal, ...]:
    return tuple(map(EspProposal.parse, options.get("esp", []))) or DEFAULT_ESP_PROPOSALS


def _flows(texts: list[str]) -> tuple[Dynamic, ...]:
    """Such as `17/1701`, and `0` for everything."""
    found = []
    for text in texts:
        protocol, _, port = text.partition("/")
        found.append(Dynamic(int(protocol), *((int(port), int(port)) if port else ALL_PORTS)))
    return tuple(found)


def _between_hosts(options: dict[str, Any], child: ChildConfig) -> ChildConfig:
    """Transport mode, if it is asked for: [what is at our end, what is at the peer's]."""
    if "transport" not in options:
        return child
    local, remote = options["transport"]
    return replace(child, mode=Mode.TRANSPORT, local=_flows(local), remote=_flows(remote))


def _listen(options: dict[str, Any]) -> int:
    pool = options.get("pool", [] if "transport" in options else POOL)
    # Most tests look at UDP: the side that waits wants it.
    encap = Encapsulation(options.get("encap", "always"))
    child = ChildConfig(
        local=_selectors([*pool, *options.get("subnets", [])]) or (DYNAMIC,),
        remote=(DYNAMIC, *_selectors(options.get("behind_peers", []))),
        proposals=_esp(options),
    )
    config = ListenerConfig(
        local_identity=Identity.parse("@server"),
        pad=(PadEntry.of_psk(options.get("psk", PSK).encode()),),
        pool=tuple(ip_network(network) for network in pool),
        child=_between_hosts(options, child),
        encap=encap,
        ikev1=Ikev1Policy(modes=frozenset(IkeMode)) if options.get("serve_ikev1") else None,
        ike_proposals=_ike(options),
        dns=tuple(options.get("dns", [])),
        dns_domains=tuple(options.get("dns_domains", [])),
        timers=Timers(**options.get("timers", {})),
    )
    return run_listen(ListenOptions(config=config, **options.get("host_options", {})), report)


def _ikev1(options: dict[str, Any]) -> Ikev1Config | None:
    """In one of its modes, if it is asked for; without NAT traversal, if that is."""
    if "ikev1" not in options:
        return None
    versions = tuple(NatTraversal) if options.get("nat_traversal", True) else ()
    return Ikev1Config(mode=IkeMode(options["ikev1"]), nat_traversal=versions)


def _connect(options: dict[str, Any]) -> int:
    child = ChildConfig(
        local=_selectors(options.get("local", [])) or (DYNAMIC,),
        remote=_selectors(options.get("subnets", POOL)),
        proposals=_esp(options),
    )
    config = ConnectionConfig(
        local_identity=Identity.parse(options.get("identity", "@client")),
        proof=Psk(options.get("psk", PSK).encode()),
        demand=PskOf(options.get("psk", PSK).encode()),
        child=_between_hosts(options, child),
        encap=Encapsulation(options.get("encap", "auto")),
        ikev1=_ikev1(options),
        ike_proposals=_ike(options),
        request_addresses=tuple(options.get("request", [] if "transport" in options else ["any4"])),
        timers=Timers(**options.get("timers", {})),
    )
    host_options = {"dns": False, **options.get("host_options", {})}
    return run_connect(ConnectOptions(host=options["host"], config=config, **host_options), report)


def _manual(options: dict[str, Any]) -> int:
    config = parse_manual(options["text"])
    return run_manual(ManualOptions(config=config, **options.get("host_options", {})), report)


def _take_away(what: str) -> None:
    """Ask the kernel for something that none has instead."""
    match what:
        case "raw":
            rawesp.PROTOCOL = 0x7FFF
        case "nftables":
            nftables.NETLINK_NETFILTER = 31
        case "steering":
            steering.SO_ATTACH_REUSEPORT_CBPF = 0x7FFF
        case "interpreter":
            sys.executable = "/nowhere/python"
        case "queues":
            pytun.IFF_MULTI_QUEUE = 0x0800
        case "IFF_VNET_HDR":
            pytun.IFF_VNET_HDR = 0x0800
        case "USO":
            (features, offloads, missed), tcp = tun._STEPS
            tun._STEPS = (features | 0x8000, offloads, missed), tcp
        case "TSO":
            tun.TUNSETOFFLOAD |= 0xFF
        case "UDP_GRO":
            udp.UDP_GRO = 0x7FFF
        case "UDP_SEGMENT":
            udp.UDP_SEGMENT = 0x7FFF


def main() -> int:
    options = json.loads(sys.argv[1])
    if options.get("drop_root"):
        os.setresuid(NOBODY, NOBODY, NOBODY)
    if "worker_life" in options:
        workers.LIFE_SECONDS_MIN = options["worker_life"]
    for what in options.get("missing", "").split():
        _take_away(what)
    tunnel.KEEPALIVE_SECONDS = options.get("keepalive", tunnel.KEEPALIVE_SECONDS)
    run = {"listen": _listen, "connect": _connect, "manual": _manual}[options["mode"]]
    try:
        return run(options)
    except EspudpError as error:
        print(f"error: {error} | {error.remedy}", flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
