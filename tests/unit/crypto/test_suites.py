import pytest
from hypothesis import given
from hypothesis import strategies as st

from espudp.crypto import names, suites
from espudp.crypto.aead import make_sealer
from espudp.crypto.suites import ESP_SUITES, EspSuite, Mode, name_of, parse_esp_suite
from espudp.errors import ConfigError
from tests.unit.crypto.seeded import keys_for, seeded_rng

# Transform types, RFC 7296 section 3.3.2
ENCR, PRF, INTEG, DH, ESN = 1, 2, 3, 4, 5

BITS = (128, 192, 256)
# ICV, and the number that the registry has for it
CCM = ((8, 14), (12, 15), (16, 16))
SHORT_GCM = ((8, 18), (12, 19))


def test_numbers_of_the_registry() -> None:
    """https://www.iana.org/assignments/ikev2-parameters, and the sizes of the RFCs named beside the rows."""
    encr = {
        r.keyword: (r.transform_id, r.key_bits, r.keymat_octets, r.iv_octets, r.icv_octets)
        for r in suites.ENCR
    }
    assert encr == {
        "aes128gcm16": (20, 128, 20, 8, 16),
        "aes192gcm16": (20, 192, 28, 8, 16),
        "aes256gcm16": (20, 256, 36, 8, 16),
        "chacha20poly1305": (28, None, 36, 8, 16),
        **{f"aes{bits}ccm{icv}": (id, bits, bits // 8 + 3, 8, icv) for bits in BITS for icv, id in CCM},
        **{f"aes{bits}gcm{icv}": (id, bits, bits // 8 + 4, 8, icv) for bits in BITS for icv, id in SHORT_GCM},
        **{f"aes{bits}gmac": (21, bits, bits // 8 + 4, 8, 16) for bits in BITS},
        **{f"aes{bits}ctr": (13, bits, bits // 8 + 4, 8, 0) for bits in BITS},
        "3des": (3, None, 24, 8, 0),
        "null": (11, None, 0, 0, 0),
        "aes128": (12, 128, 16, 16, 0),
        "aes192": (12, 192, 24, 16, 0),
        "aes256": (12, 256, 32, 16, 0),
    }
    integ = {r.keyword: (r.transform_id, r.key_octets, r.icv_octets) for r in suites.INTEG}
    assert integ == {
        "sha1": (2, 20, 12),
        "sha256": (12, 32, 16),
        "sha384": (13, 48, 24),
        "sha512": (14, 64, 32),
        "aesxcbc": (5, 16, 12),
        "aescmac": (8, 16, 12),
    }
    prf = {r.keyword: (r.transform_id, r.key_octets, r.output_octets) for r in suites.PRF}
    assert prf == {
        "prfsha1": (2, 20, 20),
        "prfsha256": (5, 32, 32),
        "prfsha384": (6, 48, 48),
        "prfsha512": (7, 64, 64),
        "prfaesxcbc": (4, 16, 16),
        "prfaescmac": (8, 16, 16),
    }
    assert {r.keyword: (r.transform_id, r.public_octets, r.secret_octets) for r in suites.DH} == {
        "modp2048": (14, 256, 256),
        "modp3072": (15, 384, 384),
        "modp4096": (16, 512, 512),
        "ecp256": (19, 64, 32),
        "ecp384": (20, 96, 48),
        "ecp521": (21, 132, 66),
        "curve25519": (31, 32, 32),
        "curve448": (32, 56, 56),
        "modp6144": (17, 768, 768),
        "modp8192": (18, 1024, 1024),
        "modp1024": (2, 128, 128),
        "modp1536": (5, 192, 192),
        "modp1024s160": (22, 128, 128),
        "modp2048s224": (23, 256, 256),
        "modp2048s256": (24, 256, 256),
    }


def test_rows_are_found_by_keyword_and_by_id() -> None:
    for encr in suites.ENCR:
        assert suites.encr_by_keyword(encr.keyword.upper()) is encr
        assert suites.encr_by_id(encr.transform_id, encr.key_bits) is encr
    for integ in suites.INTEG:
        assert suites.integ_by_keyword(integ.keyword) is suites.integ_by_id(integ.transform_id) is integ
    for prf in suites.PRF:
        assert suites.prf_by_keyword(prf.keyword) is suites.prf_by_id(prf.transform_id) is prf
    for dh in suites.DH:
        assert suites.dh_by_keyword(dh.keyword) is suites.dh_by_id(dh.transform_id) is dh


def test_what_is_unknown_is_none() -> None:
    assert suites.encr_by_keyword("des") is None
    assert suites.integ_by_keyword("md5") is None
    assert suites.prf_by_keyword("prfmd5") is None
    assert suites.dh_by_keyword("modp768") is None
    assert suites.encr_by_id(2, None) is None
    assert suites.integ_by_id(1) is None
    assert suites.prf_by_id(1) is None
    assert suites.dh_by_id(1) is None


@pytest.mark.parametrize(
    ("transform_id", "key_bits"),
    [
        (20, None),
        (12, None),
        (12, 129),
        (28, 256),
        (20, 0),
        (3, 192),
        (11, 0),
        (13, None),
        (14, 64),
        (21, None),
    ],
)
def test_a_key_length_that_does_not_belong_is_unknown(transform_id: int, key_bits: int | None) -> None:
    assert suites.encr_by_id(transform_id, key_bits) is None


def test_every_alias_means_a_row() -> None:
    known = {row.keyword for table in (suites.ENCR, suites.INTEG, suites.PRF, suites.DH) for row in table}
    assert set(names.ALIASES.values()) <= known
    assert not set(names.ALIASES) & known


def test_our_own_rows_are_named_by_their_keyword() -> None:
    for encr in suites.ENCR:
        assert name_of(ENCR, encr.transform_id, encr.key_bits) == encr.keyword
    for transform_type, table in ((PRF, suites.PRF), (INTEG, suites.INTEG), (DH, suites.DH)):
        for row in table:
            assert name_of(transform_type, row.transform_id) == row.keyword


@pytest.mark.parametrize(
    ("transform", "name"),
    [
        ((ENCR, 3, None), "3des"),
        ((ENCR, 13, 256), "aes256ctr"),
        ((ENCR, 20, None), "aesgcm16"),
        ((ENCR, 28, 256), "chacha20poly1305(256)"),
        ((ENCR, 1024, 128), "encr#1024(128)"),
        ((PRF, 4, None), "prfaesxcbc"),
        ((INTEG, 0, None), "none"),
        ((DH, 2, None), "modp1024"),
        ((DH, 99, None), "dh#99"),
        ((ESN, 1, None), "esn"),
        ((6, 36, None), "ke1_mlkem768"),
        ((200, 7, None), "type200#7"),
    ],
)
def test_names_of_what_we_do_not_speak(transform: tuple[int, int, int | None], name: str) -> None:
    assert name_of(*transform) == name


@given(st.integers(), st.integers(), st.none() | st.integers())
def test_every_number_has_a_name(transform_type: int, id: int, key_bits: int | None) -> None:
    assert name_of(transform_type, id, key_bits)


def test_the_suites_are_those_promised() -> None:
    combined = ("ccm8", "ccm12", "ccm16", "gcm8", "gcm12", "gcm16", "gmac")
    promised = {"chacha20poly1305", *(f"aes{bits}{mode}" for bits in BITS for mode in combined)}
    separate = [f"aes{bits}{mode}" for bits in BITS for mode in ("", "ctr")]
    macs = ("sha1", "sha256", "sha384", "sha512", "aesxcbc", "aescmac")
    promised |= {f"{encr}-{mac}" for encr in (*separate, "3des", "null") for mac in macs}
    assert {suite.name for suite in ESP_SUITES} == promised | {f"{name}-esn" for name in promised}


@pytest.mark.parametrize("suite", ESP_SUITES, ids=lambda suite: suite.name)
def test_a_suite_is_read_back_from_its_name(suite: EspSuite) -> None:
    assert parse_esp_suite(suite.name) == suite


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("AES_GCM_C_256", "aes256gcm16"),
        ("aes256-sha2_256-noesn", "aes256-sha256"),
        ("aes128ccm64", "aes128ccm8"),
        ("aes192gcm96-esn", "aes192gcm12-esn"),
        ("aes_ccm_a_256", "aes256ccm8"),
        ("aes_ccm_16_128", "aes128ccm16"),
        ("aes_ctr256-aes_xcbc", "aes256ctr-aesxcbc"),
        ("null_auth_aes_gmac_256", "aes256gmac"),
        ("3des_cbc-aes_cmac", "3des-aescmac"),
        ("NULL-SHA1", "null-sha1"),
        (" aes-sha-ESN ", "aes128-sha1-esn"),
        ("chacha20_poly1305-esn", "chacha20poly1305-esn"),
    ],
)
def test_other_spellings(text: str, name: str) -> None:
    assert parse_esp_suite(text).name == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", '""'),
        ("des-sha1", '"des"'),
        ("null", "needs an integrity algorithm"),
        ("aes128gmac-sha1", "takes no integrity algorithm"),
        ("aes128-md5", '"md5"'),
        ("aes128-sha256-modp2048", '"modp2048"'),
        ("aes128-sha256-sha1", '"sha1"'),
        ("aes128-esn-sha256", '"sha256"'),
        ("aes128-sha256-esn-noesn", '"noesn"'),
        ("aes128", "needs an integrity algorithm"),
        ("aes128gcm16-sha256", "takes no integrity algorithm"),
    ],
)
def test_a_suite_that_is_wrong_says_where(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_esp_suite(text)
    assert caught.value.remedy


@pytest.mark.parametrize("suite", ESP_SUITES, ids=lambda suite: suite.name)
def test_packet_sizes_are_those_of_real_packets(suite: EspSuite) -> None:
    """RFC 4303 section 2.4, one octet of padding at a time."""
    sealer = make_sealer(suite.encr, suite.integ, keys_for(suite), seeded_rng())
    alignment = {Mode.CBC: 16, Mode.TRIPLE_DES: 8}.get(suite.encr.mode, 4)
    for inner in range(100):
        plaintext = bytes(inner)
        while (len(plaintext) + 2) % alignment:
            plaintext += b"\1"
        body = sealer.seal(inner + 1, bytes(8), plaintext + bytes(2))
        assert suite.packet_octets(inner) == 8 + len(body)


@pytest.mark.parametrize("suite", ESP_SUITES, ids=lambda suite: suite.name)
def test_the_largest_inner_packet_by_trying_all(suite: EspSuite) -> None:
    for room in range(300):
        fitting = [inner for inner in range(300) if suite.packet_octets(inner) <= room]
        assert suite.max_inner(room) == max(fitting, default=0)


def test_sizes_worked_out_by_hand() -> None:
    gcm, cbc = parse_esp_suite("aes128gcm16"), parse_esp_suite("aes256-sha256-esn")
    assert gcm.packet_octets(1400) == 8 + 8 + 1404 + 16
    assert gcm.max_inner(1472) == 1438
    assert cbc.packet_octets(1400) == 8 + 16 + 1408 + 16
    assert cbc.max_inner(1472) == 1422
    assert (gcm.keymat_octets, cbc.keymat_octets) == (20, 64)
