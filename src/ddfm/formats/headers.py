"""Width and height from the headers of compressed pictures, before a decoder makes room for them."""

from __future__ import annotations

Size = tuple[int, int]

FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}  # JPEG's SOF
STANDALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
START_OF_SCAN = 0xDA


def webp_size(data: bytes) -> Size | None:
    """Return width and height of a WebP file, None if there are none."""
    kind = data[12:16]
    if not data.startswith(b"RIFF") or len(data) < 30:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
        return width, height
    return None


def png_size(data: bytes) -> Size | None:
    """Return width and height of a PNG file, None if there are none."""
    if not data.startswith(b"\x89PNG") or len(data) < 24:
        return None
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


def jpeg_size(data: bytes) -> Size | None:
    """Return width and height of a JPEG, lossless JPEG or JPEG-LS stream, None if there are none."""
    if not data.startswith(b"\xff\xd8"):
        return None
    place = 2
    while True:
        place = data.find(b"\xff", place)
        if place < 0 or place + 9 > len(data):
            return None
        marker = data[place + 1]
        if marker in FRAMES:
            return int.from_bytes(data[place + 7 : place + 9]), int.from_bytes(data[place + 5 : place + 7])
        if marker == START_OF_SCAN:
            return None
        if marker in (0x00, 0xFF):
            place += 1
        elif marker in STANDALONE:
            place += 2
        else:
            place += 2 + max(2, int.from_bytes(data[place + 2 : place + 4]))


def jpeg2000_size(data: bytes) -> Size | None:
    """Return width and height of a JPEG 2000 stream or file, None if there are none."""
    place = data.find(b"\xff\x4f\xff\x51")  # start of codestream, then the size
    if place < 0 or place + 16 > len(data):
        return None
    return int.from_bytes(data[place + 8 : place + 12]), int.from_bytes(data[place + 12 : place + 16])


def picture_size(data: bytes) -> Size | None:
    """Return width and height of a stream of any of these kinds, None if it is of none."""
    return next(
        (size for read in (jpeg_size, png_size, webp_size, jpeg2000_size) if (size := read(data))), None
    )
