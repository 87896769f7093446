"""The segments of a JPEG file, where cameras keep what is no picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from ddfm.formats.headers import STANDALONE, START_OF_SCAN

MAGIC = b"\xff\xd8\xff"
APP1, APP3 = 0xE1, 0xE3
EXIF = b"Exif\0\0"
MAKE, MODEL = 0x010F, 0x0110  # EXIF's tags


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and contents of each segment before the picture itself; none if it is no JPEG.

    Of a segment that the file's end cuts off there is what is left.
    """
    place = 2 if data.startswith(MAGIC) else len(data)
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == START_OF_SCAN:
            return
        if marker == 0xFF:  # filling
            place += 1
        elif marker in STANDALONE:
            place += 2
        else:
            length = int.from_bytes(data[place + 2 : place + 4])
            if length < 2:
                return
            yield marker, data[place + 4 : place + 2 + length]
            place += 2 + length


def exif_texts(contents: bytes) -> dict[int, str]:
    """Return the texts of the first directory of an EXIF segment by their tags; none of a damaged one."""
    tiff = contents.removeprefix(EXIF)
    if tiff[:2] not in (b"II", b"MM") or len(tiff) < 8:
        return {}
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"

    def number(place: int, length: int) -> int:
        return int.from_bytes(tiff[place : place + length], order)

    first, texts = number(4, 4), {}
    for entry in range(first + 2, first + 2 + 12 * min(number(first, 2), 256), 12):
        count = number(entry + 4, 4)
        if number(entry + 2, 2) == 2 and count <= 256:
            place = entry + 8 if count <= 4 else number(entry + 8, 4)
            texts[number(entry, 2)] = text_of(tiff[place : place + count])
    return texts


def text_of(stored: bytes) -> str:
    """Return a text that ends at a zero byte; characters that are not ASCII as question marks."""
    return stored.split(b"\0")[0].decode("ascii", "replace").replace("\ufffd", "?").strip()
