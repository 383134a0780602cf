"""Checksums of what the database of a store keeps, over its kind, its key and its content.

A row whose checksum differs is not what was written, or not where it was written.
"""

import hashlib

_DIGITS = 32
TAKEN_OVER = "*"
"""Ends the checksum of what was there before rows had one: it says that nothing has changed since,
not that it is what was measured."""


def checksum(kind: str, key: str, content: bytes) -> str:
    """Return the checksum of a value: the first half of a SHA-256, in hexadecimal.

    Examples
    --------
    >>> checksum("records", "a", b"{}") == checksum("records", "b", b"{}")
    False
    """
    total = hashlib.sha256(f"{kind}\0{key}\0".encode())
    total.update(content)
    return f"sha256:{total.hexdigest()[:_DIGITS]}"  # a word: SQLite keeps digits as a number


def is_whole(kind: str, key: str, content: bytes, found: str) -> bool:
    """Tell whether a value has the checksum that was found beside it.

    Examples
    --------
    >>> is_whole("records", "a", b"{}", checksum("records", "a", b"{}"))
    True
    """
    return found.removesuffix(TAKEN_OVER) == checksum(kind, key, content)
