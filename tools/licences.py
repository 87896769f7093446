"""The licences of packages: what their metadata says, and which shared libraries their wheels bring along.

    python -m tools.licences

prints a table of all packages beside this program. A release checks those of every extra (tools/release.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import cast

from license_expression import get_spdx_licensing
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

PERMISSIVE = {
    *(
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CNRI-Python",
        "HPND",
        "ISC",
    ),
    *("MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib"),
}
# They bind who changes their authors' own files or libraries, and nothing beside them.
WEAK_COPYLEFT = {"LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-or-later", "MPL-2.0"}
# SPDX names of what metadata calls otherwise: classifiers, or the first words of a field that is free text.
NAMES = {
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD 3-Clause": "BSD-3-Clause",
    "BSD-3-Clause License": "BSD-3-Clause",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "FreeBSD": "BSD-2-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT license": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
}
# Packages whose metadata has no licence, or names the wrong file: read in the package itself.
READ = {"faster-coco-eval": "Apache-2.0"}
# Libraries inside wheels whose licences are not those of their package.
INSIDE = {
    r"libx26[45]\b": "GPL-2.0-or-later",
    r"lib(avcodec|avdevice|avfilter|avformat|avutil|swscale|swresample)\b": "LGPL-2.1-or-later",
    r"lib(de265|heif)\b": "LGPL-3.0-or-later",
    r"lib(gmp|nettle|hogweed|unistring)\b": "LGPL-3.0-or-later",
    r"lib(gnutls|mp3lame|asound|raw|raw_r)\b": "LGPL-2.1-or-later",
    r"libQt\d?\w+": "LGPL-3.0-or-later",
}


@dataclass(frozen=True)
class Package:
    """Hold what a package says of its licence.

    Attributes:
        name: as its metadata writes it.
        version: installed.
        licence: an SPDX expression, or the words of the metadata if they are none.
        inside: licences of shared libraries in its wheel that are not permissive, by library.
    """

    name: str
    version: str
    licence: str
    inside: dict[str, str]

    @property
    def kinds(self) -> set[str]:
        """Return the licences that hold for it, one of those that it leaves to choose from."""
        return chosen(self.licence) | set(self.inside.values())

    @property
    def verdict(self) -> str:
        """Return "permissive", "weak copyleft" or "restricted"."""
        if self.kinds <= PERMISSIVE:
            return "permissive"
        return "weak copyleft" if self.kinds <= PERMISSIVE | WEAK_COPYLEFT else "restricted"


def installed(path: Path | None = None) -> list[Package]:
    """Return all packages of an environment's ``site-packages``, or of this one's, by name."""
    found = distributions() if path is None else distributions(path=[str(path)])
    packages = {each.metadata["Name"].lower(): package(each) for each in found}
    return [packages[name] for name in sorted(packages)]


def package(of: Distribution) -> Package:
    """Return what is known of the licence of an installed package."""
    inside = {}
    for file in of.files or ():
        if ".so" in file.name or file.suffix in (".dll", ".dylib"):
            for pattern, its in INSIDE.items():
                if re.match(pattern, file.name):
                    inside[re.split(r"[-.]", file.name)[0]] = its
    return Package(of.metadata["Name"], of.version, licence(of), inside)


def licence(of: Distribution) -> str:
    """Return a package's licence as SPDX writes it, or in its own words."""
    if of.metadata["Name"] in READ:
        return READ[of.metadata["Name"]]
    metadata = cast(Message, of.metadata)  # what it is; its protocol has no `get`
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classes = [name.split(" :: ")[-1] for name in metadata.get_all("Classifier", []) if name[:7] == "License"]
    field = (metadata.get("License") or "").strip().splitlines()
    own = field[0].strip() if field else ""
    if known(own):
        return NAMES.get(own, own)
    named = [name for name in classes if name not in ("OSI Approved", "Other/Proprietary License")]
    return " OR ".join(sorted(NAMES.get(name, name) for name in named)) or own or "unknown"


def known(name: str) -> bool:
    """Tell whether a free text is the name of a licence, or an SPDX expression."""
    try:
        return name in NAMES or bool(canonicalize_license_expression(name))
    except InvalidLicenseExpression:
        return False


def chosen(expression: str) -> set[str]:
    """Return the licences that hold: all of an AND, of an OR the one with the fewest demands."""
    if not known(expression):
        return {expression}
    return least(get_spdx_licensing().parse(expression))


def least(parsed: object) -> set[str]:
    """Return the licences of a parsed expression, as `chosen` does."""
    arguments = getattr(parsed, "args", ())
    if not arguments or type(parsed).__name__ not in ("AND", "OR"):
        return {str(parsed).split(" WITH ")[0]}  # exceptions permit more, never less
    each = [least(argument) for argument in arguments]
    if type(parsed).__name__ == "AND":
        return set().union(*each)
    return min(each, key=lambda names: (not names <= PERMISSIVE, not names <= PERMISSIVE | WEAK_COPYLEFT))


def table(packages: list[Package]) -> str:
    """Return the packages as Markdown, those that are not permissive first."""
    order = {"restricted": 0, "weak copyleft": 1, "permissive": 2}
    lines = ["| package | version | licence | inside its wheel | |", "| --- | --- | --- | --- | --- |"]
    for each in sorted(packages, key=lambda each: (order[each.verdict], each.name.lower())):
        inside = ", ".join(f"{library} ({licence})" for library, licence in sorted(each.inside.items()))
        lines.append(f"| {each.name} | {each.version} | {each.licence} | {inside} | {each.verdict} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(installed()), end="")
