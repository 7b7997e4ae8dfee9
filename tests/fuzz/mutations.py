"""Changes to a message of IKE that leave its length field right, so that a parser goes on behind it."""

from random import Random

HEADER_OCTETS = 28

INTERESTING = (0, 1, 3, 4, 7, 8, 0x7F, 0x80, 0xFE, 0xFF)


def mutate(data: bytes, random: Random, *, version: int) -> bytes:
    """One to four changes, and then, mostly, a length and a version that are right again."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(16, len(changed)) if len(changed) > 16 else 0
        match random.randrange(5):
            case 0:
                changed[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                changed[at : at + 1] = bytes([random.choice(INTERESTING)])
            case 2:
                del changed[at : at + random.randint(1, 8)]
            case 3:
                changed[at:at] = random.randbytes(random.randint(1, 8))
            case _:
                other = random.randrange(len(changed))
                changed[at : at + 4] = changed[other : other + 4]
    if len(changed) >= HEADER_OCTETS and random.random() < 0.9:
        changed[24:28] = len(changed).to_bytes(4, "big")
        changed[17] = version
    return bytes(changed)
