"""Names of transforms as people write them, for reading a user's and for showing a peer's.

The second part knows many algorithms that we do not speak: "no common proposal" is only understood
when both sides' offers can be read. The numbers are those of the IANA registry of IKEv2 parameters.
"""

from collections.abc import Mapping

_AES_BITS = (128, 192, 256)
# Each AEAD is also written with the bits of its ICV (aes128ccm64), and by libreswan with these octets or the
# letter that the registry's names had for them once (aes_ccm_8_128, aes_ccm_a_128; aes_ccm_a for 128 bits).
_COMBINED = {
    spelling: f"aes{bits}{mode}{icv}"
    for bits in _AES_BITS
    for mode in ("ccm", "gcm")
    for icv, letter in ((8, "a"), (12, "b"), (16, "c"))
    for spelling in (
        f"aes{bits}{mode}{8 * icv}",
        f"aes_{mode}_{icv}_{bits}",
        f"aes_{mode}_{letter}_{bits}",
        *((f"aes_{mode}_{icv}", f"aes_{mode}_{letter}") if bits == _AES_BITS[0] else ()),
    )
}

# Other spellings of our keywords: strongSwan's (aes128gcm128, sha), libreswan's (aes_gcm128, sha2_256,
# dh19) and the names of the algorithms themselves.
ALIASES: Mapping[str, str] = {
    "aes": "aes128",
    "aes_128": "aes128",
    "aes_192": "aes192",
    "aes_256": "aes256",
    "aes_cbc128": "aes128",
    "aes_cbc256": "aes256",
    "aes_gcm": "aes128gcm16",
    "aes_gcm128": "aes128gcm16",
    "aes_gcm192": "aes192gcm16",
    "aes_gcm256": "aes256gcm16",
    "aes_gcm_128": "aes128gcm16",
    "aes_gcm_192": "aes192gcm16",
    "aes_gcm_256": "aes256gcm16",
    **_COMBINED,
    "aes_ctr": "aes128ctr",
    **{f"aes_ctr{bits}": f"aes{bits}ctr" for bits in _AES_BITS},
    **{f"aes_ctr_{bits}": f"aes{bits}ctr" for bits in _AES_BITS},
    "null_auth_aes_gmac": "aes128gmac",
    **{f"null_auth_aes_gmac_{bits}": f"aes{bits}gmac" for bits in _AES_BITS},
    "chacha20_poly1305": "chacha20poly1305",
    "3des_cbc": "3des",
    "3des_cbc192": "3des",
    "sha": "sha1",
    "sha2": "sha256",
    "sha2_256": "sha256",
    "sha2_384": "sha384",
    "sha2_512": "sha512",
    "aes_xcbc": "aesxcbc",
    "aes_xcbc_96": "aesxcbc",
    "aes_cmac": "aescmac",
    "aes_cmac_96": "aescmac",
    "prfsha": "prfsha1",
    "x25519": "curve25519",
    "x448": "curve448",
    "dh2": "modp1024",
    "dh5": "modp1536",
    "dh14": "modp2048",
    "dh15": "modp3072",
    "dh16": "modp4096",
    "dh17": "modp6144",
    "dh18": "modp8192",
    "dh19": "ecp256",
    "dh20": "ecp384",
    "dh21": "ecp521",
    "dh22": "modp1024s160",
    "dh23": "modp2048s224",
    "dh24": "modp2048s256",
    "dh31": "curve25519",
    "dh32": "curve448",
}

# RFC 7296 section 3.3.2: transform types; 6 to 12 are additional key exchanges (RFC 9370)
_ENCR, _PRF, _INTEG, _DH, _ESN = 1, 2, 3, 4, 5
_ADDITIONAL_KE = range(6, 13)

# Where the Key Length attribute belongs in the keyword stands "{}".
_ENCR_NAMES: Mapping[int, str] = {
    1: "des-iv64",
    2: "des",
    3: "3des",
    4: "rc5",
    5: "idea",
    6: "cast{}",
    7: "blowfish{}",
    8: "3idea",
    9: "des-iv32",
    11: "null",
    12: "aes{}",
    13: "aes{}ctr",
    14: "aes{}ccm8",
    15: "aes{}ccm12",
    16: "aes{}ccm16",
    18: "aes{}gcm8",
    19: "aes{}gcm12",
    20: "aes{}gcm16",
    21: "aes{}gmac",
    23: "camellia{}",
    24: "camellia{}ctr",
    25: "camellia{}ccm8",
    26: "camellia{}ccm12",
    27: "camellia{}ccm16",
    28: "chacha20poly1305",
    29: "aes{}ccm8iiv",
    30: "aes{}gcm16iiv",
    31: "chacha20poly1305iiv",
    32: "kuznyechikmgmktree",
    33: "magmamgmktree",
    34: "kuznyechikmgmmacktree",
    35: "magmamgmmacktree",
}

_PRF_NAMES: Mapping[int, str] = {
    1: "prfmd5",
    2: "prfsha1",
    3: "prftiger",
    4: "prfaesxcbc",
    5: "prfsha256",
    6: "prfsha384",
    7: "prfsha512",
    8: "prfaescmac",
    9: "prfstreebog512",
}

_INTEG_NAMES: Mapping[int, str] = {
    0: "none",
    1: "md5",
    2: "sha1",
    3: "desmac",
    4: "kpdkmd5",
    5: "aesxcbc",
    6: "md5_128",
    7: "sha1_160",
    8: "aescmac",
    9: "aes128gmac",
    10: "aes192gmac",
    11: "aes256gmac",
    12: "sha256",
    13: "sha384",
    14: "sha512",
}

_DH_NAMES: Mapping[int, str] = {
    0: "none",
    1: "modp768",
    2: "modp1024",
    5: "modp1536",
    14: "modp2048",
    15: "modp3072",
    16: "modp4096",
    17: "modp6144",
    18: "modp8192",
    19: "ecp256",
    20: "ecp384",
    21: "ecp521",
    22: "modp1024s160",
    23: "modp2048s224",
    24: "modp2048s256",
    25: "ecp192",
    26: "ecp224",
    27: "ecp224bp",
    28: "ecp256bp",
    29: "ecp384bp",
    30: "ecp512bp",
    31: "curve25519",
    32: "curve448",
    33: "gost256",
    34: "gost512",
    35: "mlkem512",
    36: "mlkem768",
    37: "mlkem1024",
}

_ESN_NAMES: Mapping[int, str] = {0: "noesn", 1: "esn"}

_NAMES: Mapping[int, tuple[str, Mapping[int, str]]] = {
    _ENCR: ("encr", _ENCR_NAMES),
    _PRF: ("prf", _PRF_NAMES),
    _INTEG: ("integ", _INTEG_NAMES),
    _DH: ("dh", _DH_NAMES),
    _ESN: ("esn", _ESN_NAMES),
}


def name_of(transform_type: int, id: int, key_bits: int | None = None) -> str:
    """What to call a transform, whatever its numbers: "aes256gcm16", "modp1024", "encr#1024(128)"."""
    if transform_type in _ADDITIONAL_KE:
        return f"ke{transform_type - 5}_{name_of(_DH, id, key_bits)}"
    kind, names = _NAMES.get(transform_type, (f"type{transform_type}", {}))
    name = names.get(id, f"{kind}#{id}")
    bits = "" if key_bits is None else str(key_bits)
    if "{}" in name:
        return name.format(bits)
    return f"{name}({bits})" if bits else name
