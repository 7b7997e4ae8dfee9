"""Files that hold secrets: made readable by their owner alone, and refused when others can read them."""

import base64
import errno
import os
import stat
from pathlib import Path

from espudp.crypto.signatures import (
    PrivateKey,
    PublicKey,
    generate_key,
    load_private_key,
    load_public_key,
)
from espudp.errors import ConfigError, HostError
from espudp.ike.config import SECRET_OCTETS

# 32 octets of chance: as strong as the strongest suite, and typed by nobody.
PSK_OCTETS = 32
MAX_FILE_OCTETS = 1 << 16

CONFIG_VARIABLE = "ESPUDP_CONFIG_DIR"
CONFIG_DIRECTORY = "/etc/espudp"


def default_psk_file() -> Path:
    """Where `espudp listen` keeps the PSK it made: /etc/espudp/psk, or in $ESPUDP_CONFIG_DIR."""
    return _directory() / "psk"


def _directory() -> Path:
    return Path(os.environ.get(CONFIG_VARIABLE, CONFIG_DIRECTORY))


def default_key_file() -> Path:
    """Where `espudp keygen` keeps our private key: /etc/espudp/key, or in $ESPUDP_CONFIG_DIR."""
    return Path(os.environ.get(CONFIG_VARIABLE, CONFIG_DIRECTORY)) / "key"


def read_secret(path: Path, *, what: str) -> bytes:
    """The octets of a secret file; `what` names it to the user. Raises ConfigError, without the octets."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, what, error) from None
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        os.close(descriptor)
        raise ConfigError(f"the {what} {path} is a directory", field=what, remedy="Name the file in it.")
    with os.fdopen(descriptor, "rb") as file:
        # A pipe or a secret mounted by a container engine has an owner and a mode as well.
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(
                f"the {what} {path} is accessible to others (mode {stat.S_IMODE(status.st_mode):04o})",
                field=what,
                remedy=f"Make it its owner's alone: chmod 600 {path}",
            )
        content = file.read(MAX_FILE_OCTETS + 1)
    if len(content) > MAX_FILE_OCTETS:
        raise ConfigError(
            f"the {what} {path} has more than {MAX_FILE_OCTETS} octets",
            field=what,
            remedy="Is it the right file?",
        )
    return content


def read_psk(path: Path) -> bytes:
    """The PSK in a file: its content without white space around it. Raises ConfigError."""
    psk = read_secret(path, what="PSK file").strip()
    if not psk:
        raise ConfigError(
            f"the PSK file {path} is empty",
            field="psk-file",
            remedy=f"Write a long random one into it: openssl rand -base64 32 > {path}",
        )
    return psk


def write_secret(path: Path, content: bytes, *, overwrite: bool = False) -> None:
    """Write a file of mode 0600, making its directory (0700) if need be.

    Raises HostError, and ConfigError where the file exists and is not to be overwritten.
    """
    # Written aside and moved into place: no moment at which half of it, or a wider mode, can be seen.
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, parents=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            _put(aside, path, overwrite=overwrite)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise HostError(
            f"{path} could not be written: {error.strerror}.",
            remedy="Run espudp as root, or choose a file in a directory of yours.",
        ) from None


def _put(aside: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        aside.replace(path)
        return
    try:
        os.link(aside, path)
    except FileExistsError:
        raise ConfigError(
            f"{path} exists already", field="output", remedy="Name another file, or remove that one first."
        ) from None


def obtain_psk(path: Path) -> tuple[bytes, bool]:
    """The PSK in a file, which is made with a strong one if it is missing; whether it was.

    Raises ConfigError and HostError.
    """
    if path.exists():
        return read_psk(path), False
    psk = generate_psk()
    write_secret(path, psk + b"\n")
    return psk, True


def read_private_key(path: Path, password_file: Path | None = None) -> PrivateKey:
    """The private key in a file. Raises ConfigError."""
    password = None if password_file is None else read_secret(password_file, what="password file").strip()
    try:
        octets = read_secret(path, what="key file")
    except ConfigError as error:
        remedy = error.remedy if path.exists() else "Make one: espudp keygen --key FILE"
        raise ConfigError(str(error), field="key", remedy=remedy) from None
    return load_private_key(octets, password)


def obtain_key(path: Path) -> tuple[PrivateKey, bool]:
    """The private key in a file, which is made if it is missing; whether it was.

    Raises ConfigError and HostError.
    """
    if path.exists():
        return read_private_key(path), False
    key = generate_key(os.urandom)
    write_secret(path, key.to_pem())
    return key, True


def show_public_key(key: PublicKey) -> str:
    """A public key in one line, as `read_public_keys` reads it: its SubjectPublicKeyInfo in base64."""
    return base64.b64encode(key.spki).decode()


def read_public_keys(text: str) -> tuple[PublicKey, ...]:
    """The public key that `text` is; or those in the file that it names: PEM, DER, or a key in each line.

    What follows a key in its line is for people, as is a line that begins with #. Raises ConfigError.
    """
    octets = _decoded(text.strip())
    if octets is not None:
        return (load_public_key(octets),)
    try:
        content = Path(text).read_bytes()[:MAX_FILE_OCTETS]
    except OSError:
        raise ConfigError(
            f"'{text[:80]}' is neither a public key nor a file",
            field="peer-key",
            remedy="It is to be what `espudp keygen` prints on the other host, or a file with that in it.",
        ) from None
    words = [line.split() for line in content.decode("ascii", "replace").splitlines()]
    keys = [_decoded(line[0]) for line in words if line and not line[0].startswith("#")]
    found = [octets for octets in keys if octets is not None]
    if found and len(found) == len(keys):
        return tuple(map(load_public_key, found))
    return (load_public_key(content),)


def _decoded(text: str) -> bytes | None:
    """Base64 of something that may be a SubjectPublicKeyInfo; None for what is not."""
    try:
        octets = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    # RFC 5280 section 4.1: it is a SEQUENCE
    return octets if octets[:1] == b"\x30" else None


def obtain_secret(name: str) -> bytes:
    """32 random octets that are the same whenever a listener of this name runs. Raises ConfigError and
    HostError.

    Of this name alone: what is known by its SPIs must not be told by another one (RFC 6290 section 9.2).
    """
    path = _directory() / f"secret-{name}"
    if not path.exists():
        write_secret(path, os.urandom(SECRET_OCTETS))
    return read_secret(path, what="listener's secret")


def generate_psk() -> bytes:
    """A strong PSK of letters, digits, - and _, which needs no quoting in a shell."""
    while True:
        psk = base64.urlsafe_b64encode(os.urandom(PSK_OCTETS)).rstrip(b"=")
        if not psk.startswith(b"-"):  # else a command line takes it for an option
            return psk


def _unreadable(path: Path, what: str, error: OSError) -> ConfigError:
    if error.errno == errno.ENOENT:
        return ConfigError(
            f"the {what} {path} does not exist",
            field=what,
            remedy="Check the name; or copy it from the other host, readable by its owner alone (chmod 600).",
        )
    return ConfigError(
        f"the {what} {path} cannot be read: {error.strerror}",
        field=what,
        remedy="Run espudp as its owner, or as root.",
    )
