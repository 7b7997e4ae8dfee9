"""Cutting super-packets into segments, joining segments, completing checksums."""

import pytest

from benchmarks.micro.conftest import Measure
from benchmarks.micro.packets import SEGMENTS, TCP, UDP, acknowledgement, plain_packets, super_packet
from benchmarks.micro.peers import EVERY_OFFLOAD
from espudp.offload import coalesce, finish, finished, rows_of, segment

KINDS = pytest.mark.parametrize(
    ("version", "protocol"),
    [(4, TCP), (6, TCP), (4, UDP), (6, UDP)],
    ids=["TCPv4", "TCPv6", "UDPv4", "UDPv6"],
)


@KINDS
def test_segmentation(measure: Measure, version: int, protocol: int) -> None:
    frame = super_packet(version, protocol)
    done = measure.of("segmentation", packets=SEGMENTS)
    if len(done(segment, frame)) != SEGMENTS:
        raise RuntimeError("segments are missing")


@KINDS
def test_coalescing(measure: Measure, version: int, protocol: int) -> None:
    """All of one flow, checksums verified."""
    rows = rows_of(plain_packets(version, protocol))
    done = measure.of("coalescing", packets=SEGMENTS)
    if len(done(coalesce, rows, EVERY_OFFLOAD)) != 1:
        raise RuntimeError("not one super-packet")


def test_coalescing_of_two_flows_that_alternate(measure: Measure) -> None:
    """There is nothing to join, and that takes time too."""
    one, other = plain_packets(protocol=TCP), plain_packets(protocol=UDP)
    rows = rows_of([packet for both in zip(one, other, strict=True) for packet in both][:SEGMENTS])
    done = measure.of("coalescing", packets=SEGMENTS)
    if len(done(coalesce, rows, EVERY_OFFLOAD)) != SEGMENTS:
        raise RuntimeError("joined what does not belong together")


def test_checksum_of_one(measure: Measure) -> None:
    frame = acknowledgement()
    done = measure.of("checksums", packets=1)
    done(finished, frame)


def test_checksums_of_many(measure: Measure) -> None:
    frames = [acknowledgement()] * SEGMENTS
    done = measure.of("checksums", packets=SEGMENTS)
    done(finish, frames)
