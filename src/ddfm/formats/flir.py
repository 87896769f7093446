"""FLIR's radiometric JPEG: the records that its APP1 segments hold, in the layout that ExifTool documents.

The segments together are a file of their own, "FFF": a header, a directory, and records. Nothing in there is
trusted. A record lies within the file or it is refused, and pictures are judged by their headers first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from ddfm.errors import InputError
from ddfm.formats import raster
from ddfm.formats.jpeg import APP1, text_of
from ddfm.formats.limits import check_decoded
from ddfm.pictures.radiometry import ZERO_CELSIUS, Calibration, Conditions

MAGIC = b"FLIR\0"
HEADER, ENTRY, PICTURE = 64, 32, 32  # bytes of the FFF header, of a directory's entry, before a picture
VERSIONS = range(100, 200)
RAW, PHOTOGRAPH, CAMERA, PICTURE_IN_PICTURE = 0x01, 0x0E, 0x20, 0x2A
CAMERA_BYTES = 0x310  # of its record that are needed
ZOOM, MOST_ZOOM = 0x36C, 16.0  # where the record has the digital zoom; ExifTool does not name it


@dataclass(frozen=True)
class FlirFile:
    """Hold what a file says.

    Attributes:
        counts: of the sensor, uint16 (H, W).
        calibration, conditions: to make temperatures of them.
        camera, lens: their names, as the file has them.
        rated: the temperatures in degrees Celsius that the camera was set for.
        photograph: what is in the record for it, a JPEG or PNG; empty if there is none.
        real_to_ir: width of the photograph by that of the sensor's field; None if the file does not say.
            The file has that of the zoomed view, which is more by the zoom.
        offset: of the field's centre from the photograph's, in the latter's pixels.
    """

    counts: NDArray[np.uint16]
    calibration: Calibration
    conditions: Conditions
    camera: str
    lens: str
    rated: tuple[float, float]
    photograph: bytes
    real_to_ir: float | None
    offset: tuple[int, int]


def is_flir(parts: Iterable[tuple[int, bytes]]) -> bool:
    """Tell whether a JPEG's segments hold FLIR's records."""
    return any(marker == APP1 and contents.startswith(MAGIC) for marker, contents in parts)


def read(parts: Iterable[tuple[int, bytes]], name: str) -> FlirFile:
    """Read the records of a JPEG's segments. Raises InputError, naming the file."""
    found = _records(_joined(parts, name), name)
    for kind, what in ((RAW, "sensor data"), (CAMERA, "calibration")):
        if kind not in found:
            raise InputError(f"{name}: is a FLIR file without {what}; only the picture on display is left")
    counts = _counts(found[RAW], name)
    camera = found[CAMERA]
    if len(camera) < CAMERA_BYTES:
        raise InputError(f"{name}: FLIR's calibration is cut short")
    floats = {at: _unpack(camera, "f", at)[0] for at in range(0x20, 0xB0, 4)}
    calibration = Calibration(
        *(floats[at] for at in (0x58, 0x5C, 0x60)),
        *(_unpack(camera, "i", 0x308) + _unpack(camera, "f", 0x30C)),
        *(floats[at] for at in range(0x70, 0x84, 4)),
    )
    reflected, air, window = (floats[at] - ZERO_CELSIUS for at in (0x28, 0x2C, 0x30))
    humidity = floats[0x3C] / 100 if floats[0x3C] > 2 else floats[0x3C]  # some files have per cent
    transmission = floats[0x34]
    real_to_ir, offset = _placed(found.get(PICTURE_IN_PICTURE, b""), _zoom(camera))
    return FlirFile(
        counts,
        calibration,
        Conditions(floats[0x20], floats[0x24], reflected, air, window, transmission, humidity),
        text_of(camera[0xD4:0xF4]),
        text_of(camera[0x170:0x190]),
        (floats[0x94] - ZERO_CELSIUS, floats[0x90] - ZERO_CELSIUS),
        found.get(PHOTOGRAPH, b"")[PICTURE:],
        real_to_ir,
        offset,
    )


def photograph(data: bytes, name: str) -> raster.DecodedPicture | None:
    """Decode the embedded photograph; None if there is none of a known kind. Raises InputError."""
    if data.startswith(b"\xff\xd8"):
        return raster.read(data, name, ("JPEG",))
    if not data.startswith(raster.PNG_MAGIC):
        return None
    picture = raster.read(data, name, ("PNG",))
    if picture.samples.ndim == 3 and picture.samples.shape[2] == 3 and picture.samples.dtype == np.uint8:
        # PNG knows no such colours: FLIR has Y, Cb and Cr in its three channels.
        planes = [PILImage.fromarray(np.ascontiguousarray(picture.samples[..., k])) for k in range(3)]
        colours = np.asarray(PILImage.merge("YCbCr", planes).convert("RGB"))
        return raster.DecodedPicture(colours, None, None)
    return picture


def _joined(parts: Iterable[tuple[int, bytes]], name: str) -> bytes:
    """Return the FFF file: the segments' contents in the order of their numbers."""
    pieces: dict[int, bytes] = {}
    last: int | None = None
    for marker, contents in parts:
        if marker != APP1 or not contents.startswith(MAGIC) or len(contents) < 8:
            continue
        number, declared = contents[6], contents[7]
        if number in pieces or declared != (last if last is not None else declared):
            raise InputError(f"{name}: FLIR's segments contradict each other; the file is damaged")
        pieces[number], last = contents[8:], declared
    count = (last or 0) + 1
    missing = next((k for k in range(count) if k not in pieces), None)
    if missing is not None:
        raise InputError(f"{name}: is cut short: part {missing + 1} of {count} of FLIR's data is missing")
    return b"".join(pieces[k] for k in range(count))


def _records(data: bytes, name: str) -> dict[int, bytes]:
    """Return the first record of each kind."""
    order = next((o for o in (">", "<") if len(data) >= HEADER and _version(data, o) in VERSIONS), None)
    if order is None or not data.startswith((b"FFF\0", b"AFF\0")):
        raise InputError(f"{name}: FLIR's records are damaged: no header of a known version")
    start, count = struct.unpack_from(order + "2I", data, 0x18)
    if start + count * ENTRY > len(data):
        raise InputError(f"{name}: FLIR's records are damaged: their directory lies outside the file")
    found: dict[int, bytes] = {}
    for entry in range(start, start + count * ENTRY, ENTRY):
        (kind,) = struct.unpack_from(order + "H", data, entry)
        place, length = struct.unpack_from(order + "2I", data, entry + 0x0C)
        if kind not in (RAW, PHOTOGRAPH, CAMERA, PICTURE_IN_PICTURE) or kind in found:
            continue
        if place + length > len(data):
            raise InputError(f"{name}: FLIR's records are cut short or damaged: one lies outside the file")
        found[kind] = data[place : place + length]
    return found


def _version(data: bytes, order: str) -> int:
    (version,) = struct.unpack_from(order + "I", data, 0x14)
    return int(version)


def _unpack(record: bytes, kind: str, place: int) -> tuple[Any, ...]:
    """Unpack numbers of a record, whose first number, a small one, shows the order of its bytes."""
    order = "<" if record[:1] != b"\0" else ">"
    return struct.unpack_from(order + kind, record, place)


def _counts(record: bytes, name: str) -> NDArray[np.uint16]:
    """Return the sensor's counts, (H, W)."""
    if len(record) <= PICTURE:
        raise InputError(f"{name}: FLIR's sensor data is cut short")
    width, height = _unpack(record, "2H", 2)
    stored = record[PICTURE:]
    check_decoded(name, width * height, 2 * width * height, len(stored))
    if stored.startswith(raster.PNG_MAGIC):
        counts = raster.read(stored, name, ("PNG",)).samples
    elif len(stored) >= 2 * width * height:
        counts = np.frombuffer(stored, "<u2", width * height).reshape(height, width)
    else:
        raise InputError(f"{name}: FLIR's sensor data is cut short, or compressed in an unknown way")
    if counts.shape != (height, width) or counts.dtype != np.uint16 or not counts.size:
        shape = "x".join(map(str, counts.shape[1::-1]))
        found = f"{shape} {counts.dtype}"
        raise InputError(f"{name}: FLIR's sensor data is {found}, not {width}x{height} of 16 bits")
    return _smoother(counts, counts.byteswap())


def _smoother(*readings: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return the reading whose neighbours differ least: most PNG have their bytes in the wrong order."""
    return min(readings, key=lambda counts: np.abs(np.diff(counts.astype(np.int32), axis=1)).mean())


def _zoom(camera: bytes) -> float:
    """Return the digital zoom, 1 for none."""
    zoom = _unpack(camera, "f", ZOOM)[0] if len(camera) >= ZOOM + 4 else 1.0
    return zoom if 1 <= zoom <= MOST_ZOOM else 1.0


def _placed(record: bytes, zoom: float) -> tuple[float | None, tuple[int, int]]:
    """Return how the photograph and the sensor's field lie to each other; see `FlirFile`."""
    if len(record) < 8:
        return None, (0, 0)
    ratio, across, down = struct.unpack_from("<f2h", record)
    return (ratio / zoom if 0.2 < ratio < 20 else None), (across, down)
