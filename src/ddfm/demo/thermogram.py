"""A made-up file of a thermal camera: the drawn street as FLIR's radiometric JPEG, with its photograph.

For the demonstration and the tests, which have no camera. The layout is that of `ddfm.formats.flir`.
"""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddfm.demo import street
from ddfm.formats.flir import CAMERA, MAGIC, PHOTOGRAPH, PICTURE_IN_PICTURE, RAW, ZOOM
from ddfm.pictures.palettes import STEPS, table
from ddfm.pictures.radiometry import ZERO_CELSIUS, Calibration, Conditions, counts_of

COLDEST, HOTTEST = -4.0, 36.0  # degrees Celsius, of the drawn street's black and white
WIDTH, HEIGHT = 256, 192  # of the made-up sensor
REAL_TO_IR, OFFSET = 1.12, (6, -5)  # the sensor sees less than the photograph, and beside its middle
CALIBRATION = Calibration(r1=16000.0, b=1420.0, f=1.0, o=-5000.0, r2=0.0125)
CONDITIONS = Conditions(emissivity=0.95, distance=5.0, reflected=5.0, air=6.0, window=6.0, humidity=0.8)
CAMERA_LENGTH = 0x46C
MOST = 65_525  # bytes of the data that one segment takes


def street_file() -> bytes:
    """Return the street at night as a camera's file: 256 x 192 temperatures, a photograph of 640 x 480."""
    thermal, photograph = street.draw()
    across, down = photograph.width / REAL_TO_IR, photograph.height / REAL_TO_IR
    left = (photograph.width - across) / 2 + OFFSET[0]
    top = (photograph.height - down) / 2 + OFFSET[1]
    warmth = Image.fromarray(np.asarray(thermal, np.float32) / 255)
    seen = warmth.resize(
        (WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=(left, top, left + across, top + down)
    )
    temperatures = COLDEST + np.asarray(seen).clip(0, 1) * (HOTTEST - COLDEST)
    stored = io.BytesIO()
    photograph.save(stored, "JPEG", quality=92)
    return flir_file(temperatures, stored.getvalue(), real_to_ir=REAL_TO_IR, offset=OFFSET)


def flir_file(
    temperatures: NDArray[np.floating],
    photograph: bytes = b"",
    *,
    calibration: Calibration = CALIBRATION,
    conditions: Conditions = CONDITIONS,
    real_to_ir: float = 1.25,
    offset: tuple[int, int] = (12, -8),
    zoom: float = 1.0,
    packed: bool = True,
) -> bytes:
    """Return a radiometric JPEG in FLIR's layout.

    Args:
        temperatures: degrees Celsius, (H, W).
        photograph: a JPEG or PNG file; empty for none.
        calibration, conditions: of the made-up camera.
        real_to_ir, offset: how photograph and sensor lie to each other; see `ddfm.formats.flir.FlirFile`.
        zoom: digital zoom of the picture on display, which the stored ratio includes.
        packed: whether the counts are a PNG, as in newer cameras, instead of plain numbers.
    """
    counts = np.rint(counts_of(temperatures, calibration, conditions)).clip(0, 65535).astype(np.uint16)
    height, width = counts.shape
    # Cameras put the bytes of PNG's samples the wrong way round.
    raw = bytes(imagecodecs.png_encode(counts.byteswap())) if packed else counts.astype("<u2").tobytes()
    camera = _camera(calibration, conditions, zoom)
    records = {RAW: struct.pack("<3H26x", 2, width, height) + raw, CAMERA: camera}
    if photograph:
        with Image.open(io.BytesIO(photograph)) as picture:
            records[PHOTOGRAPH] = struct.pack("<3H26x", 3, *picture.size) + photograph
        records[PICTURE_IN_PICTURE] = struct.pack("<f6h", real_to_ir * zoom, *offset, 0, width, 0, height)
    return _with_segments(_display(temperatures), _fff(records))


def _camera(calibration: Calibration, conditions: Conditions, zoom: float) -> bytes:
    """Return the record of calibration and conditions."""
    c, at = calibration, conditions
    kelvin = [degrees + ZERO_CELSIUS for degrees in (at.reflected, at.air, at.window)]
    record = bytearray(CAMERA_LENGTH)
    record[0:2] = struct.pack("<H", 2)
    struct.pack_into("<6f", record, 0x20, at.emissivity, at.distance, *kelvin, at.transmission)
    struct.pack_into("<f", record, 0x3C, at.humidity)
    struct.pack_into("<3f", record, 0x58, c.r1, c.b, c.f)
    struct.pack_into("<5f", record, 0x70, c.alpha1, c.alpha2, c.beta1, c.beta2, c.x)
    struct.pack_into("<2f", record, 0x90, 120 + ZERO_CELSIUS, -20 + ZERO_CELSIUS)
    struct.pack_into("<32s", record, 0xD4, b"made-up camera")
    struct.pack_into("<32s", record, 0x170, b"made-up lens")
    struct.pack_into("<if", record, 0x308, int(c.o), c.r2)
    struct.pack_into("<f", record, ZOOM, zoom)
    return bytes(record)


def _fff(records: dict[int, bytes]) -> bytes:
    """Return header, directory and records, their numbers with the highest byte first."""
    start = 64
    place = start + 32 * len(records)
    directory, contents = b"", b""
    for kind, record in records.items():
        directory += struct.pack(">2H4I12x", kind, 3, 100, 1, place + len(contents), len(record))
        contents += record
    header = struct.pack(">4s16s4I28x", b"FFF\0", b"ddfm demo", 101, start, len(records), 1)
    return header + directory + contents


def _display(temperatures: NDArray[np.floating]) -> bytes:
    """Return the JPEG that the camera shows: colours from the coldest to the hottest."""
    low, high = float(temperatures.min()), float(temperatures.max())
    value = ((temperatures - low) / max(high - low, 1e-6) * (STEPS - 1)).astype(int)
    buffer = io.BytesIO()
    Image.fromarray(table("iron")[value, value]).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _with_segments(picture: bytes, data: bytes) -> bytes:
    """Return a JPEG with the data in its APP1 segments, numbered from 0 to the last."""
    parts = [data[first : first + MOST] for first in range(0, len(data), MOST)]
    segments = b""
    for number, part in enumerate(parts):
        contents = MAGIC + bytes((1, number, len(parts) - 1)) + part
        segments += b"\xff\xe1" + struct.pack(">H", len(contents) + 2) + contents
    return picture[:2] + segments + picture[2:]
