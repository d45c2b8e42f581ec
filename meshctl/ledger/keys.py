"""Keyed hashes: how the ledger finds a patient or an id again without holding it.

The key is in the state folder, readable by the owner only. Whoever has the ledger alone can neither read
nor guess an NHS number from it.
"""

import secrets
from hashlib import blake2b
from pathlib import Path

from meshctl.errors import MeshctlError
from meshctl.files import durable
from meshctl.files.reading import open_named

KEY_NAME = "key"
"""The key's name in the state folder."""

_KEY_BYTES = 32
_HASH_BYTES = 16


class KeyMissingError(MeshctlError):
    """The state folder has no usable key."""


class Keys:
    """Makes keyed hashes of texts with one secret key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        # Hashed once: the key is half of the work for a short text.
        self._begun = blake2b(digest_size=_HASH_BYTES, key=key)

    @property
    def secret(self) -> bytes:
        """Return the key itself, to be written to its file and nowhere else."""
        return self._key

    def of(self, text: str) -> bytes:
        """Return the 16-byte keyed hash of `text`."""
        keyed = self._begun.copy()
        keyed.update(text.encode("utf-8", "surrogatepass"))
        return keyed.digest()

    @property
    def fingerprint(self) -> str:
        """Return a hash by which keys are compared without showing them."""
        return blake2b(b"fingerprint", digest_size=8, key=self._key).hexdigest()


def read_keys(path: Path) -> Keys:
    """Read the key file. Raises KeyMissingError when it is missing or not a key."""
    try:
        with open_named(path) as file:
            key = file.read(_KEY_BYTES + 1)
    except FileNotFoundError:
        raise KeyMissingError(
            f"There is no key at {path}. It is made when 'meshctl run' first starts."
        ) from None
    if len(key) != _KEY_BYTES:
        raise KeyMissingError(f"The key at {path} is not {_KEY_BYTES} bytes long. Restore it from a back-up.")
    return Keys(key)


def make_keys(path: Path) -> Keys:
    """Write a fresh key to `path`, durably, and return it."""
    keys = Keys(secrets.token_bytes(_KEY_BYTES))
    write_keys(path, keys)
    return keys


def write_keys(path: Path, keys: Keys) -> None:
    """Write a key to `path`, durably. Raises OSError."""
    # Durable before the ledger names this key as the one it was written with.
    durable.replace_whole(str(path), keys.secret, 0o600, f"{path}.new")
