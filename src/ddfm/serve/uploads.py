"""Take a multipart body piece by piece: limits act on each piece, names of files stay names.

Starlette's own parser would spool any number of bytes first. This one stops at the first that is too many.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ddfm.errors import one_line
from ddfm.serve.content import DICOM_AT, DICOM_MAGIC, is_dicom
from ddfm.serve.problems import Problem

MOST_FIELDS = 8
MOST_FIELD_BYTES = 16 * 2**10
MOST_NAME = 120  # characters
MOST_SLICES = 2048  # DICOM files of all series together
SEPARATORS = re.compile(r"[\\/]")


@dataclass
class Upload:
    """Hold what a body brought.

    Attributes:
        files: where each file lies, in the order in which they came.
        names: the client's names of them, for people; never a path.
        folders: the client's names of the folders they lay in, for people; empty where none was sent.
        parts: the form's name of each file.
        fields: the other parts.
    """

    files: list[Path] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    fields: dict[str, bytes] = field(default_factory=dict)


def plain_name(name: str) -> str:
    """Return a client's name of a file without folders and hidden characters, short enough to show."""
    last = SEPARATORS.split(one_line(name))[-1].strip(". ")
    return last[-MOST_NAME:] or "unnamed"


def folder_name(name: str) -> str:
    """Return the last folder of a client's name of a file, to show; empty if it has none."""
    parts = SEPARATORS.split(one_line(name))
    return parts[-2].strip(". ")[-MOST_NAME:] if len(parts) > 1 else ""


class _Receiver:
    """Write the parts of a body as they come."""

    def __init__(self, folder: Path, most_files: int) -> None:
        self.folder, self.most_files = folder, most_files
        self.upload = Upload()
        self.headers: dict[bytes, bytes] = {}
        self.header_name = self.header_value = b""
        self.part = ""
        self.file: IO[bytes] | None = None
        self.text = bytearray()
        self.single = 0  # files that are no slices of DICOM series
        self.ended = False

    def callbacks(self) -> dict[str, object]:
        """Return what the parser is to call."""
        return {
            "on_part_begin": self.begin,
            "on_header_field": self.name_piece,
            "on_header_value": self.value_piece,
            "on_header_end": self.header_end,
            "on_headers_finished": self.open,
            "on_part_data": self.data,
            "on_part_end": self.close,
            "on_end": self.end,
        }

    def begin(self) -> None:
        """Start a part."""
        self.headers, self.header_name, self.header_value = {}, b"", b""

    def name_piece(self, data: bytes, start: int, end: int) -> None:
        """Take a piece of a header's name."""
        self.header_name += data[start:end]

    def value_piece(self, data: bytes, start: int, end: int) -> None:
        """Take a piece of a header's value."""
        self.header_value += data[start:end]

    def header_end(self) -> None:
        """Keep a header."""
        self.headers[self.header_name.lower()] = self.header_value
        self.header_name = self.header_value = b""

    def open(self) -> None:
        """Open what the part is written to. Raises Problem."""
        kind, options = parse_options_header(self.headers.get(b"content-disposition", b""))
        if kind != b"form-data" or b"name" not in options:
            raise Problem(400, "a part of the body has no name")
        self.part = options[b"name"].decode("utf-8", "replace")
        self.text = bytearray()
        if b"filename" not in options:
            if len(self.upload.fields) >= MOST_FIELDS:
                raise Problem(400, f"more than {MOST_FIELDS} fields")
            return
        if self.single >= self.most_files:
            raise Problem(413, f"more than {self.most_files} files")
        if len(self.upload.files) >= MOST_SLICES:
            raise Problem(413, f"more than {MOST_SLICES} DICOM files")
        path = self.folder / f"source-{len(self.upload.files) + 1}"
        self.file = path.open("x+b")
        self.upload.files.append(path)
        self.upload.parts.append(self.part)
        name = options[b"filename"].decode("utf-8", "replace")
        self.upload.names.append(plain_name(name))
        self.upload.folders.append(folder_name(name))

    def data(self, data: bytes, start: int, end: int) -> None:
        """Write a piece of the part. Raises Problem."""
        if self.file is not None:
            self.file.write(data[start:end])
            return
        if len(self.text) + end - start > MOST_FIELD_BYTES:
            raise Problem(413, f"the field {one_line(self.part)[:40]} has more than {MOST_FIELD_BYTES} bytes")
        self.text += data[start:end]

    def close(self) -> None:
        """End the part."""
        if self.file is not None:
            self.file.seek(0)
            self.single += not is_dicom(self.file.read(DICOM_AT + len(DICOM_MAGIC)))
            self.file.close()
            self.file = None
        else:
            self.upload.fields[self.part] = bytes(self.text)

    def end(self) -> None:
        """Note that the last boundary was seen."""
        self.ended = True


async def receive(content_type: str, body: AsyncIterator[bytes], folder: Path, most_files: int) -> Upload:
    """Write the files of a multipart body into a folder, as source-1, source-2, ...

    Raises:
        Problem: the body is no form, is broken, or has more than it may.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 256:
        raise Problem(415, "a body of multipart/form-data is needed")
    receiver = _Receiver(folder, most_files)
    try:
        parser = MultipartParser(boundary, receiver.callbacks())  # type: ignore[arg-type]
        async for piece in body:
            parser.write(piece)
        parser.finalize()
    except FormParserError:
        raise Problem(400, "the body is no whole form (multipart/form-data)") from None
    finally:
        if receiver.file is not None:
            receiver.file.close()
    if not receiver.ended:
        raise Problem(400, "the body ends before its last boundary")
    return receiver.upload
