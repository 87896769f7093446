"""HEIC pictures of telephones, through libheif (``pip install 'ddfm[heic]'``)."""

from __future__ import annotations

import io

from PIL import Image as PILImage

from ddfm.errors import InputError
from ddfm.formats.files import decoding
from ddfm.formats.limits import check_decoded

BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
FIRST_BOX = 4096  # bytes of the first box, which names the brands, at most


def is_heic(data: bytes) -> bool:
    """Tell whether these are the bytes of a HEIC file, by the brands in its first box."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4]), FIRST_BOX, len(data))
    brands = {data[8:12]} | {data[at : at + 4] for at in range(16, end - 3, 4)}
    return data[8:12] not in (b"avif", b"avis", b"crx ") and bool(brands & BRANDS)


def opened(data: bytes, name: str) -> PILImage.Image:
    """Return the picture, decoded: upright, of 8 bits, with EXIF and colour profile.

    Raises InputError for what is damaged, of several pictures or too large, or without pillow-heif.
    """
    try:
        import pillow_heif
    except ImportError as missing:
        raise InputError(f"{name}: HEIC needs pillow-heif: pip install 'ddfm[heic]'") from missing
    with decoding(name):
        file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
        width, height = file.size
        bands = len(PILImage.new(file.mode, (1, 1)).getbands())
    check_decoded(name, width * height, bands * width * height, len(data))
    with decoding(name):
        return file.to_pillow()
