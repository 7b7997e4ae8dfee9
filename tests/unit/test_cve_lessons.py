"""What felled other implementations, and the test that keeps each lesson.

The lessons that no other test keeps are tested here, below the table.
"""

import ast
import json
from functools import cache
from pathlib import Path

import pytest

from espudp.ike.drop import Drop
from espudp.ike.events import ConnectionDown, ConnectionUp, Fault, PeerRefused
from espudp.ike.proposals import IkeProposal
from espudp.wire.ikev2.constants import ExchangeType, PayloadType
from espudp.wire.ikev2.header import HEADER_OCTETS, Header
from espudp.wire.ikev2.message import emit_message
from espudp.wire.ikev2.payloads import Eap, EncryptedFragment, IdInitiator, IdResponder, Payload
from tests.scenario.strangers_v1 import server_v1, states_of
from tests.shared_vectors import shared_vectors
from tests.unit.ike.pair import CLIENT_ID, SERVER_ID, Pair, Side, client_config, path_to_server

_TESTS = Path(__file__).parent.parent
_HERE = "unit/test_cve_lessons.py"


_FORGERS = "scenario/test_v1_forgers.py"

_LESSONS: dict[str, tuple[str, ...]] = {
    "CVE-2009-0790": (
        "unit/ike/test_endpoint.py::test_a_request_for_an_unknown_ike_sa",
        f"{_FORGERS}::test_dead_peer_detection_in_the_clear_for_nobody",
    ),
    "CVE-2013-2052/3/4": (
        "unit/wire/ikev2/test_payloads.py::test_a_body_that_lies_is_refused",
        "unit/ike/test_hostile_peers.py::test_an_identity_is_not_longer_than_it_need_be",
    ),
    "CVE-2013-6075": (
        "unit/ike/test_identity.py::test_equality_is_type_and_octets",
        "unit/ike/test_initial_exchanges.py::test_identities_are_compared_exactly",
    ),
    "CVE-2013-6076": (
        f"{_HERE}::test_a_fragment_that_was_never_negotiated",
        "scenario/test_v1_fragments.py::test_a_first_message_in_fragments_is_nobodys",
        "scenario/test_v1_fragments.py::test_fragments_of_somebody_who_reads_along_end_nothing",
    ),
    "CVE-2013-6466/6467": (
        "unit/ike/test_strangers.py::test_a_request_that_lacks_a_payload",
        "unit/ike/test_auth.py::test_a_request_that_lacks_a_payload",
        "unit/ike/test_rules.py::test_a_request_needs_each_of_its_payloads_once",
    ),
    "CVE-2013-4564": (
        "unit/wire/ikev2/test_message.py::test_the_length_field_equals_the_datagram",
        "unit/ike/test_endpoint.py::test_a_length_that_is_not_the_datagrams",
        "unit/ike/test_endpoint.py::test_a_higher_version_is_told_ours",
    ),
    "CVE-2014-2338": (
        "unit/ike/test_initial_exchanges.py::test_before_authentication_there_is_only_authentication",
    ),
    "CVE-2014-9221": (
        "unit/ike/test_proposals.py::test_internal_and_private_numbers_do_not_match",
        "unit/ike/test_initial_exchanges.py::test_a_group_that_was_not_offered_is_not_taken",
    ),
    "CVE-2015-3204": (
        "unit/ike/test_identity.py::test_any_identity_of_a_peer_can_be_shown",
        "unit/ike/test_proposals.py::test_offers_of_strangers_can_be_shown",
        "unit/wire/ikev2/test_message.py::test_types_of_the_other_version_are_unknown",
        "scenario/test_hostile_wire.py::test_nothing_of_a_peer_gets_at_the_terminal",
        "scenario/test_v1_bad_gateways.py::test_what_a_gateway_says_has_nothing_that_moves_a_cursor",
        f"{_FORGERS}::test_domains_and_situations_that_nobody_knows",
    ),
    "CVE-2015-3240": (
        "unit/crypto/test_dh.py::test_trivial_modp_values_are_refused",
        "unit/crypto/test_dh.py::test_points_off_the_curve_are_refused",
        "unit/crypto/test_dh.py::test_x25519_points_of_small_order",
        "unit/ike/test_strangers.py::test_a_public_value_that_no_honest_peer_sends",
    ),
    "CVE-2015-3991": (
        "unit/wire/ikev2/test_message.py::test_types_of_the_other_version_are_unknown",
        "unit/wire/ikev1/test_payloads.py::test_types_of_ikev2_mean_nothing",
        f"{_FORGERS}::test_content_of_one_version_behind_the_header_of_another",
    ),
    "CVE-2015-4171": ("unit/ike/test_auth.py::test_a_server_that_does_not_know_the_psk",),
    "CVE-2016-5391": ("unit/ike/test_proposals.py::test_an_ike_proposal_that_lacks_a_kind",),
    "CVE-2016-3071": (
        "unit/ike/test_proposals.py::test_all_that_is_offered_is_implemented",
        "unit/ike/test_auth.py::test_a_child_sa_that_was_not_offered",
    ),
    "CVE-2016-5361": (
        "unit/ike/test_strangers.py::test_no_answer_is_much_larger_than_its_request",
        "scenario/test_hostile_wire.py::test_a_flood_of_requests_leaves_room_for_an_honest_peer",
        f"{_FORGERS}::test_nothing_is_repeated_to_who_has_shown_nothing",
        "scenario/test_v1_hostile.py::test_a_flood_of_first_messages_costs_no_key_pair_and_keeps_nobody_out",
    ),
    "CVE-2018-10811": (
        "unit/crypto/test_prf.py::test_a_failing_library_is_a_crypto_error",
        "unit/ike/test_endpoint.py::test_a_failing_crypto_operation_ends_what_it_was_for",
        "unit/ike/test_proposals.py::test_weak_algorithms_are_not_offered_by_default",
    ),
    "CVE-2018-16151/16152, CVE-2026-50721/50722": (
        "unit/crypto/test_signatures.py::test_every_scheme_of_a_key",
        "unit/crypto/test_signatures.py::test_a_bare_hash_is_all_that_ikev1_signs",
    ),
    "CVE-2018-6459": (
        "unit/crypto/test_signatures.py::test_pss_as_others_write_it",
        "unit/crypto/test_signatures.py::test_schemes_that_are_refused",
    ),
    "CVE-2019-10155": (f"{_FORGERS}::test_what_was_protected_and_then_changed_is_nobodys",),
    "CVE-2019-12312": (
        "unit/ike/test_initial_exchanges.py::test_before_authentication_there_is_only_authentication",
    ),
    "CVE-2020-1763": (
        "unit/ike/test_endpoint.py::test_a_lower_version_is_told_nothing",
        f"{_HERE}::test_a_first_message_with_another_header_in_it",
        f"{_FORGERS}::test_dead_peer_detection_in_the_clear_for_nobody",
    ),
    "CVE-2021-45079": (
        f"{_HERE}::test_eap_success_proves_nothing_to_a_client",
        f"{_HERE}::test_eap_success_proves_nothing_to_a_server",
    ),
    "CVE-2022-23094": (f"{_HERE}::test_a_first_message_with_another_header_in_it",),
    "CVE-2023-23009": ("unit/wire/ikev2/test_selectors.py::test_a_body_that_lies_is_refused",),
    "CVE-2023-30570": (f"{_HERE}::test_a_refused_negotiation_leaves_no_spi_behind",),
    "CVE-2023-38710": ("unit/ike/test_rekey.py::test_a_rekey_of_something_that_does_not_exist",),
    "CVE-2023-38711": ("unit/ike/v1/test_quick_ids.py::test_what_tells_no_traffic_is_refused",),
    "CVE-2023-38712": (
        "unit/ike/test_established.py::test_several_deletes_and_the_same_one_twice",
        "unit/ike/v1/test_quick_hostile.py::test_an_spi_that_is_deleted_twice_in_one_breath",
    ),
    "CVE-2023-41913": (
        "unit/crypto/test_dh.py::test_a_value_of_the_wrong_size_is_refused",
        "unit/ike/test_strangers.py::test_a_public_value_that_no_honest_peer_sends",
    ),
    "CVE-2024-3652": ("unit/ike/test_proposals.py::test_transforms_that_match_nothing",),
    "CVE-2026-12413": (
        "unit/wire/ikev2/test_message.py::test_outer_and_inner_payloads_are_counted_together",
    ),
    "CVE-2026-25075 / CVE-2026-35330 / CVE-2025-62291": (
        "unit/wire/ikev2/test_payloads.py::test_a_body_that_lies_is_refused",
        "fuzz/test_wire_fuzz.py::test_the_largest_payload_of_the_smallest_parts",
    ),
}


@cache
def _tests_in(path: str) -> frozenset[str]:
    tree = ast.parse((_TESTS / path).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_no_lesson_is_left_out() -> None:
    known = json.loads(shared_vectors("cve", "cves.json").read_text())["cves"]
    assert {lesson["cve"] for lesson in known} == set(_LESSONS)


@pytest.mark.parametrize("cve", _LESSONS)
def test_each_lesson_has_a_test(cve: str) -> None:
    assert _LESSONS[cve]
    for test in _LESSONS[cve]:
        path, _, name = test.partition("::")
        assert name in _tests_in(path), test


# Lessons that are kept here


@pytest.mark.parametrize("stage", ["init", "auth", "established"])
def test_a_fragment_that_was_never_negotiated(stage: str) -> None:
    """CVE-2013-6076: in no state is there anything to put it together with."""
    pair = Pair()
    if stage == "established":
        pair.connect()
    else:
        pair.dial()
        for side in [pair.client, pair.server][: ["init", "auth"].index(stage)]:
            pair.move(side)
    for side in (pair.client, pair.server):
        before = side.state_names
        for state in side.states:
            for number, total in ((1, 1), (1, 2), (2, 2), (65535, 65535)):
                _give_fragment(pair, side, state.local_spi, EncryptedFragment(0, number, total, bytes(64)))
        assert side.state_names == before
        assert not side.told(ConnectionDown)


def _give_fragment(pair: Pair, side: Side, spi: bytes, fragment: EncryptedFragment) -> None:
    to_initiator = side is pair.client
    for exchange in (ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH, ExchangeType.INFORMATIONAL):
        for message_id in range(3):
            header = Header(
                spi if to_initiator else bytes(7) + b"\x01",
                bytes(7) + b"\x02" if to_initiator else spi,
                next_payload=PayloadType.SKF,
                exchange=exchange,
                is_initiator=not to_initiator,
                is_response=to_initiator,
                message_id=message_id,
            )
            path = path_to_server(4500)
            side.endpoint.receive_datagram(emit_message(header, [fragment]), path, pair.now)


_EAP_SUCCESS = Eap(bytes([3, 1, 0, 4]))


def test_eap_success_proves_nothing_to_a_client() -> None:
    """CVE-2021-45079."""
    identified: list[Payload] = [IdResponder(SERVER_ID.type, SERVER_ID.data), _EAP_SUCCESS]
    for payloads in (identified, identified[1:]):
        pair = Pair()
        pair.dial()
        pair.move(pair.client)
        pair.move(pair.server)
        _answer_auth_with(pair, payloads)
        assert not pair.client.told(ConnectionUp)
        (down,) = pair.client.told(ConnectionDown)
        assert down.fault in (Fault.PROTOCOL, Fault.AUTHENTICATION)


def _answer_auth_with(pair: Pair, payloads: list[Payload]) -> None:
    """What a server says that has the keys of the IKE SA and not the PSK."""
    ((data, path),) = pair.take(pair.client)
    (half_open,) = pair.server.states
    sa = half_open._sa  # type: ignore[attr-defined]
    header = Header.parse(data)
    answer = sa._protection.seal(sa._header(header.exchange, header.message_id, is_response=True), payloads)
    pair.client.endpoint.receive_datagram(answer, path, pair.now)


def test_eap_success_proves_nothing_to_a_server() -> None:
    """CVE-2021-45079."""
    pair = Pair()
    pair.dial()
    pair.move(pair.client)
    pair.move(pair.server)
    (dialling,) = pair.client.states
    ((data, path),) = pair.take(pair.client)
    sa = dialling._sa  # type: ignore[attr-defined]
    header = Header.parse(data)
    request = [IdInitiator(CLIENT_ID.type, CLIENT_ID.data), _EAP_SUCCESS]
    sealed = sa._protection.seal(sa._header(header.exchange, header.message_id, is_response=False), request)
    pair.give(pair.server, (sealed, path))
    assert not pair.server.told(ConnectionUp)
    assert len(pair.server.told(PeerRefused)) == 1


@pytest.mark.parametrize("serves_ikev1", [False, True])
@pytest.mark.parametrize("version", [0x10, 0x20])
@pytest.mark.parametrize("exchange", [2, 4, 5, 34, 37])
def test_a_first_message_with_another_header_in_it(serves_ikev1: bool, version: int, exchange: int) -> None:
    """CVE-2022-23094, CVE-2020-1763: refused early, where there is no SA that a log could speak of."""
    pair = Pair(server=server_v1() if serves_ikev1 else None)
    spi = bytes(range(1, 9))
    inner = spi + bytes(8) + bytes([1, version, exchange, 8]) + bytes(4) + (HEADER_OCTETS).to_bytes(4)
    outer = inner[:24] + (2 * HEADER_OCTETS).to_bytes(4)
    for data in (outer + inner, inner + outer, outer + inner[:-1] + b"\xff"):
        pair.give(pair.server, (data, path_to_server(500)))
    assert pair.server.states == []
    assert states_of(pair.server) == 0
    assert sum(pair.server.endpoint.drops.values()) == 3
    unserved = version == 0x10 and not serves_ikev1
    assert not pair.server.told(PeerRefused) or unserved
    answered = pair.take(pair.server)
    assert not answered or version == 0x20


def test_a_refused_negotiation_leaves_no_spi_behind() -> None:
    """CVE-2023-30570: nothing of it can be named afterwards."""
    pair = Pair(client_config(ike=[IkeProposal.parse("aes256-sha256-modp2048")]))
    pair.dial()
    ((request, path),) = pair.take(pair.client)
    pair.give(pair.server, (request, path))
    ((answer, _),) = pair.take(pair.server)
    header = Header.parse(answer)
    assert header.spi_r == bytes(8)
    assert pair.server.states == []
    for spi_r in (header.spi_r, header.spi_i):
        again = header.spi_i + spi_r + request[16:18] + bytes([35]) + request[19:]
        pair.give(pair.server, (again, path))
    assert pair.server.endpoint.drops[Drop.UNKNOWN_SPI] == 2
    assert pair.server.states == []
