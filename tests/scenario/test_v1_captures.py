"""What initiators in captures have sent, sent again to a listener of ours."""

from collections.abc import Sequence

from espudp.ike.events import ConnectionUp
from espudp.ike.pad import PadEntry
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev1.constants import IkeAttribute, IkeHash, NotifyType
from espudp.wire.ikev1.message import Message, parse_message
from espudp.wire.ikev1.payloads import (
    KeyExchange,
    NatDiscovery,
    Nonce,
    Notification,
    SecurityAssociation,
    VendorId,
)
from espudp.wire.ikev1.vendor_ids import named
from tests.pcap import UdpDatagram, udp_datagrams
from tests.scenario.credentials import SERVER, person, trust
from tests.scenario.lab import SERVER_IP, Lab
from tests.scenario.lab_v1 import TermsV1, lab_v1
from tests.shared_vectors import shared_vectors

# Main mode by RSA signatures through a NAT, and without one
NAT = ("pcap", "tcpdump", "isakmp4500.pcap")
CERTS = ("pcap", "wireshark", "ikev1-certs.pcap")

NON_ESP_MARKER = bytes(4)


def listening(suite: str) -> Lab:
    entry = PadEntry(proof=person("RSA", SERVER).proof, demand=trust())
    return lab_v1(terms=TermsV1(ike=(suite,), pad=(entry,)))


def captured(parts: Sequence[str]) -> list[UdpDatagram]:
    return list(udp_datagrams(shared_vectors(*parts)))


def answers(lab: Lab, datagram: UdpDatagram, data: bytes | None = None) -> list[Message]:
    """To a datagram of a capture, or to what has become of it."""
    path = Path(UdpAddress(SERVER_IP, datagram.dport), UdpAddress(datagram.source, datagram.sport))
    tunnel, now = lab.server.tunnel, lab.world.now
    tunnel.receive_datagrams([data or datagram.data], path, now)
    sent = [bytes(octets) for train in tunnel.datagrams_to_send(now) for octets in train.datagrams]
    return [parse_message(octets.removeprefix(NON_ESP_MARKER)) for octets in sent]


def chosen(message: Message) -> dict[int, int | None]:
    """The attributes of a message 2, all but the hash: other people have taken MD5 where they could."""
    sa = message.get(SecurityAssociation)
    assert sa is not None
    ((transform,),) = (proposal.transforms for proposal in sa.proposals)
    return {**transform.values, IkeAttribute.HASH: IkeHash.SHA1}


def test_it_is_answered_as_the_responder_of_the_capture_did() -> None:
    first, second, third, fourth, fifth = captured(NAT)[:5]
    lab = listening("3des-sha1-modp1536")
    (ours,) = answers(lab, first)
    theirs = parse_message(second.data)
    assert chosen(ours) == chosen(theirs)
    for message in (ours, theirs):
        assert {"RFC 3947", "DPD"} <= set(named(v.data for v in message.all(VendorId)))
    cookie = ours.header.cookie_r
    (ours,) = answers(lab, third, third.data[:8] + cookie + third.data[16:])
    theirs = parse_message(fourth.data)
    for kind in (KeyExchange, Nonce, NatDiscovery):
        assert len(ours.all(kind)) == len(theirs.all(kind)) > 0
    key, another = ours.get(KeyExchange), theirs.get(KeyExchange)
    assert key is not None
    assert another is not None
    assert len(key.data) == len(another.data)
    # Under keys that are not ours
    assert (fifth.dport, fifth.data[:4]) == (4500, NON_ESP_MARKER)
    answers(lab, fifth, fifth.data[:12] + cookie + fifth.data[20:])
    assert not lab.server.told(ConnectionUp)


def test_a_suite_that_nobody_should_have_is_refused() -> None:
    """3DES with MD5."""
    (answer,) = answers(listening("3des-sha1-modp1024"), captured(CERTS)[0])
    (said,) = answer.all(Notification)
    assert said.type == NotifyType.NO_PROPOSAL_CHOSEN
