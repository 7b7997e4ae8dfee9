"""tshark, the outside judge: whole sessions, decrypted from the wire with the keys of the test-only hook."""

import random
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path as FilePath

import pytest

from espudp import (
    DYNAMIC,
    ChildConfig,
    ConnectionConfig,
    EspProposal,
    Identity,
    IkeProposal,
    ListenerConfig,
    PadEntry,
    Path,
    Psk,
    PskOf,
    TrafficSelector,
    Tunnel,
    UdpAddress,
)
from espudp.crypto.suites import ENCR
from espudp.ike.keylog import KeyLogEntry
from tests.interop.capture import ESP_ENCR, IKE_ENCR, Captured, Field, ipv4, tshark, udp, write_pcap

pytestmark = pytest.mark.tshark

CLIENT, SERVER = "192.0.2.1", "198.51.100.1"
PLAIN = Path(UdpAddress(CLIENT, 500), UdpAddress(SERVER, 500))
FLOATED = Path(UdpAddress(CLIENT, 4500), UdpAddress(SERVER, 4500))
PSK = b"a pre-shared key for a capture"
POOL = "10.99.0.0/24"
INSIDE, OUTSIDE = "10.99.0.2", "10.99.0.1"


class Session:
    """A client and a server in memory; what they sent each other, and the keys that they logged."""

    def __init__(self, ike: str, esp: str, workers: int = 1) -> None:
        rng = random.Random(f"{ike}/{esp}").randbytes
        self.captured: list[Captured] = []
        self.keys: list[KeyLogEntry] = []
        self.now = 0.0
        proposals = (IkeProposal.parse(ike),), (EspProposal.parse(esp),)
        pool = TrafficSelector.from_network(POOL)
        listener = ListenerConfig(
            local_identity=Identity.parse("server.example"),
            pad=(PadEntry.of_psk(PSK),),
            child=ChildConfig(local=(pool,), remote=(DYNAMIC,), proposals=proposals[1]),
            ike_proposals=proposals[0],
            pool=(ip_network(POOL),),
        )
        wanted = ConnectionConfig(
            local_identity=Identity.parse("client.example"),
            proof=Psk(PSK),
            demand=PskOf(PSK),
            child=ChildConfig(remote=(pool,), proposals=proposals[1]),
            ike_proposals=proposals[0],
        )
        self.server = Tunnel(rng, listener=listener, workers=workers)
        self.client = Tunnel(rng, key_log=self.keys.append, workers=workers)
        self.connection = self.client.connect(wanted, PLAIN, FLOATED, self.now)
        self.exchange()

    def exchange(self) -> None:
        """Carry datagrams across until both are silent."""
        for sender, receiver in self._turns():
            for path, datagrams, _ in sender.datagrams_to_send(self.now):
                self.captured += [Captured(path, datagram) for datagram in datagrams]
                receiver.receive_datagrams(datagrams, Path(path.remote, path.local), self.now)

    def _turns(self) -> Iterator[tuple[Tunnel, Tunnel]]:
        quiet = 0
        while quiet < 2:
            before = len(self.captured)
            yield self.client, self.server
            yield self.server, self.client
            quiet = quiet + 1 if len(self.captured) == before else 0

    def talk(self, text: str) -> list[str]:
        """One packet each way through the tunnel; returns what they said, as hexadecimal digits."""
        said = [f"{text}, says the client".encode(), f"{text}, says the server".encode()]
        self.client.receive_packets([ipv4(INSIDE, OUTSIDE, 17, udp(1000, 9, said[0]))], self.now)
        self.exchange()
        self.server.receive_packets([ipv4(OUTSIDE, INSIDE, 17, udp(9, 1000, said[1]))], self.now)
        self.exchange()
        delivered = self.server.packets_to_deliver() + self.client.packets_to_deliver()
        assert [packet[28:] for packet in delivered] == said
        return [line.hex() for line in said]

    def rekey_child(self) -> None:
        (current,) = (sa.pair for sa in self.client.snapshot(self.now).sas if sa.direction == "out")
        self.client.rekey_child(self.connection, current, self.now)
        self.exchange()

    def judged(self, folder: FilePath) -> list[list[Field]]:
        write_pcap(folder / "session.pcap", self.captured)
        return tshark(folder / "session.pcap", self.keys)


# RFC 7296 section 3.1
EXCHANGES = {34: "IKE_SA_INIT", 35: "IKE_AUTH", 36: "CREATE_CHILD_SA", 37: "INFORMATIONAL"}

SUITES = [
    ("aes128-sha256-modp2048", "aes128-sha256"),
    ("aes192-sha1-modp3072", "aes192-sha1-modp3072"),
    ("aes256-sha384-ecp384", "aes256-sha384-ecp384"),
    ("aes256-sha512-ecp521", "aes256-sha512"),
    ("aes128gcm16-prfsha256-curve25519", "aes128gcm16-curve25519"),
    ("aes192gcm16-prfsha1-modp4096", "aes192gcm16"),
    ("aes256gcm16-prfsha384-ecp256", "aes256gcm16-ecp256"),
    ("3des-sha1-modp1536", "3des-sha1-modp1024"),
    ("aes128gcm8-prfaesxcbc-curve448", "aes128gcm8-curve448"),
    ("aes256gcm12-prfaescmac-modp2048s256", "aes256gcm12"),
    ("aes128ccm8-prfsha256-modp1024s160", "aes128ctr-sha256"),
    ("aes192ccm12-prfsha512-modp6144", "aes192ctr-sha1"),
    ("aes256ccm16-prfsha1-modp2048s224", "null-sha512"),
]


def named(packet: list[Field], name: str) -> list[Field]:
    return [field for field in packet if field.name == name]


@pytest.mark.parametrize(("ike", "esp"), SUITES)
def test_a_whole_session_decrypts(ike: str, esp: str, tmp_path: FilePath) -> None:
    session = Session(ike, esp)
    said = session.talk("at first")
    session.rekey_child()
    said += session.talk("with new ESP keys")
    session.client.rekey_ike(session.connection, session.now)
    session.exchange()
    session.rekey_child()
    said += session.talk("with keys of the new IKE SA")
    session.client.close(session.connection, session.now)
    session.exchange()

    packets = session.judged(tmp_path)
    assert len(packets) == len(session.captured)
    messages = [packet for packet in packets if named(packet, "isakmp.exchangetype")]
    exchanges = [EXCHANGES[int(named(packet, "isakmp.exchangetype")[0].value)] for packet in messages]
    init, auth, create, inform = (exchanges.count(name) for name in EXCHANGES.values())
    assert (init, auth, create) == (2, 2, 6)  # three rekeys, each a request and its response
    assert inform == 8  # three deletes of what was replaced, and the one at the end

    for packet in messages[2:]:
        assert named(packet, "isakmp.enc.decrypted"), "a message that did not decrypt"
        (icv,) = named(packet, "isakmp.enc.icd")
        assert "[correct]" in icv.line

    esp_packets = [packet for packet in packets if named(packet, "esp.sequence")]
    assert len(messages) + len(esp_packets) == len(packets)
    assert [named(packet, "esp.icv_good")[0].value for packet in esp_packets] == ["1"] * len(said)
    assert [named(packet, "data.data")[0].value.replace(":", "") for packet in esp_packets] == said
    assert len({named(packet, "esp.spi")[0].value for packet in esp_packets}) == len(said)


def test_a_child_sa_for_each_of_two_workers(tmp_path: FilePath) -> None:
    """RFC 9611 section 5.1: number 16444, protocol 0, no SPI, no identifier."""
    session = Session(*SUITES[4], workers=2)
    said = session.talk("for the second worker")
    packets = session.judged(tmp_path)
    messages = [packet for packet in packets if named(packet, "isakmp.exchangetype")]
    exchanges = [EXCHANGES[int(named(packet, "isakmp.exchangetype")[0].value)] for packet in messages]
    assert exchanges == ["IKE_SA_INIT"] * 2 + ["IKE_AUTH"] * 2 + ["CREATE_CHILD_SA"] * 2
    for packet in messages[2:]:
        (icv,) = named(packet, "isakmp.enc.icd")
        assert "[correct]" in icv.line
        types = [field.value for field in named(packet, "isakmp.notify.msgtype")]
        index = types.index("16444")
        assert named(packet, "isakmp.notify.protoid")[index].value == "0"
        assert named(packet, "isakmp.notify.data")[index].value == ""
    esp_packets = [packet for packet in packets if named(packet, "esp.sequence")]
    assert [named(packet, "data.data")[0].value.replace(":", "") for packet in esp_packets] == said


def spoilt(captured: Captured) -> Captured:
    payload = captured.payload
    return captured._replace(payload=payload[:-1] + bytes([payload[-1] ^ 1]))


@pytest.mark.parametrize(("ike", "esp"), [SUITES[0], SUITES[4]])
def test_the_judge_sees_a_wrong_octet(ike: str, esp: str, tmp_path: FilePath) -> None:
    session = Session(ike, esp)
    session.talk("hello")
    *first, auth, good, bad = session.captured
    session.captured = [*first, spoilt(auth), good, spoilt(bad)]
    *_, auth_seen, good_seen, bad_seen = session.judged(tmp_path)
    assert "[incorrect" in named(auth_seen, "isakmp.enc.icd")[0].line
    assert named(good_seen, "esp.icv_good")[0].value == "1"
    assert named(bad_seen, "esp.icv_good")[0].value == "0"


def test_every_cipher_that_tshark_knows_is_judged() -> None:
    child = {EspProposal.parse(esp).encr[0].transform_id for _, esp in SUITES}
    assert child == {row.transform_id for row in ENCR if row.transform_id in ESP_ENCR}
    ike = {IkeProposal.parse(ike).encr[0].transform_id for ike, _ in SUITES}
    assert ike == {row.transform_id for row in ENCR if row.transform_id in IKE_ENCR}
