"""The bounded reader and the writer."""

import pytest

from espudp.errors import WireError
from espudp.wire.buffer import Reader, Writer


def test_fields_are_big_endian() -> None:
    reader = Reader(bytes.fromhex("01 0203 04050607 08090a0b0c0d0e0f"))
    assert (reader.u8(), reader.u16(), reader.u32(), reader.u64()) == (
        0x01,
        0x0203,
        0x04050607,
        0x08090A0B0C0D0E0F,
    )
    reader.expect_end()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_takes_any_buffer_and_gives_bytes(kind: type[bytes] | type[bytearray] | type[memoryview]) -> None:
    reader = Reader(kind(b"abcdef"))
    taken, rest = reader.take(2), reader.rest()
    assert (taken, rest) == (b"ab", b"cdef")
    assert (type(taken), type(rest)) == (bytes, bytes)


@pytest.mark.parametrize("field", ["u8", "u16", "u32", "u64"])
def test_a_field_past_the_end_takes_nothing(field: str) -> None:
    octets = int(field[1:]) // 8
    reader = Reader(bytes(octets - 1))
    with pytest.raises(WireError, match=f"needs {octets} octets where {octets - 1} are left"):
        getattr(reader, field)()
    assert reader.remaining == octets - 1


def test_take_sub_and_skip_stop_at_the_end() -> None:
    reader = Reader(b"abc")
    for past in (reader.take, reader.sub, reader.skip):
        with pytest.raises(WireError):
            past(4)
    assert reader.rest() == b"abc"


@pytest.mark.parametrize("octets", [-1, -4])
def test_a_negative_length_never_steps_back(octets: int) -> None:
    reader = Reader(b"abcdef")
    reader.skip(4)
    for take in (reader.take, reader.sub, reader.skip):
        with pytest.raises(WireError, match="too small"):
            take(octets)
    assert reader.rest() == b"ef"


def test_a_child_is_restricted_to_its_part_and_the_parent_goes_on_behind_it() -> None:
    parent = Reader(b"abcdef")
    child = parent.sub(2)
    assert parent.remaining == 4
    assert parent.take(1) == b"c"
    with pytest.raises(WireError):
        child.take(3)
    assert child.rest() == b"ab"
    with pytest.raises(WireError):
        child.u8()
    grandchild = parent.sub(3).sub(1)
    assert grandchild.rest() == b"d"
    parent.expect_end()


def test_expect_end_counts_what_is_left_over() -> None:
    reader = Reader(b"abc")
    with pytest.raises(WireError, match="3 octets too many"):
        reader.expect_end()
    assert reader.rest() == b"abc"
    reader.expect_end()
    assert reader.rest() == b""


def test_writer_writes_what_the_reader_reads() -> None:
    writer = Writer()
    writer.u8(1)
    writer.u16(0x0203)
    writer.u32(0x04050607)
    writer.u64(0x08090A0B0C0D0E0F)
    writer.put(memoryview(b"xyz"))
    assert writer.getvalue() == bytes.fromhex("01 0203 04050607 08090a0b0c0d0e0f") + b"xyz"
    assert len(writer) == 18


@pytest.mark.parametrize(("field", "value"), [("u8", 256), ("u16", 65536), ("u32", 1 << 32), ("u64", -1)])
def test_a_value_that_does_not_fit_is_refused(field: str, value: int) -> None:
    writer = Writer()
    with pytest.raises(WireError, match="does not fit"):
        getattr(writer, field)(value)
    assert writer.getvalue() == b""


def test_lengths_nest_and_count_their_headers() -> None:
    writer = Writer()
    writer.u16(0xAAAA)
    with writer.length16(include=4):
        writer.put(b"ab")
        with writer.length16():
            writer.put(b"cde")
    assert writer.getvalue() == bytes.fromhex("aaaa 000b 6162 0003 636465")


def test_a_length_that_does_not_fit_is_refused() -> None:
    writer = Writer()
    with pytest.raises(WireError, match="65536 octets"), writer.length16(include=4):
        writer.put(bytes(65532))
