"""The container file and the compose file say what the package has, and keep to good manners."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from typing import Any

import typer
import yaml

from ddfm.cli import app
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KNOWN = {"FROM", "WORKDIR", "RUN", "ENV", "COPY", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"}


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(words[0], words[1]) for words in (line.split(maxsplit=1) for line in lines)]


def of(kind: str) -> list[str]:
    return [text for name, text in instructions() if name == kind]


def test_the_container_file_is_made_of_known_instructions() -> None:
    assert {name for name, _ in instructions()} <= KNOWN
    for image in of("FROM"):
        assert re.fullmatch(r"[\w./-]+:[\w.-]+( AS \w+)?", image)
        assert ":latest" not in image
    assert PROJECT["requires-python"] == ">=3.11"
    assert all("python:3.11" in image for image in of("FROM"))


def test_what_is_copied_and_installed_is_there() -> None:
    for text in of("COPY"):
        words = [word for word in text.split() if not word.startswith("--from")]
        if "--from=build" not in text:
            assert all((ROOT / word).exists() for word in words[:-1])
    (install,) = (text for text in of("RUN") if "pip install" in text)
    words = shlex.split(install)
    extras = re.fullmatch(r"\.\[([\w,]+)\]", words[-1])
    assert extras
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    assert "serve" in extras[1].split(",")
    assert "--no-cache-dir" in words
    assert words[words.index("--constraint") + 1] == "constraints.txt"


def test_it_starts_as_nobody_in_particular_with_options_that_exist() -> None:
    names = [name for name, _ in instructions()]
    assert of("USER") == ["10001"]
    assert names.index("USER") < names.index("ENTRYPOINT")
    command = json.loads(of("ENTRYPOINT")[0])
    assert command[:2] == ["ddfm", "serve"]
    known = {option for parameter in parameters() for option in parameter.opts}
    assert {word for word in command if word.startswith("--")} <= known
    assert command[command.index("--data") + 1] == of("VOLUME")[0]
    assert command[command.index("--port") + 1] == of("EXPOSE")[0]
    assert of("EXPOSE")[0] in of("HEALTHCHECK")[0]
    assert "/readyz" in of("HEALTHCHECK")[0]


def parameters() -> list[Any]:
    group = typer.main.get_command(app)
    return list(group.commands["serve"].params)  # type: ignore[attr-defined]


def test_the_compose_file_demands_a_token_and_grants_little() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert set(compose) == {"services", "volumes"}
    service = compose["services"]["ddfm"]
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert service["environment"]["DDFM_TOKEN"].startswith("${DDFM_TOKEN:?")
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    (volume,) = service["volumes"]
    name, place = volume.split(":")
    assert name in compose["volumes"]
    assert place == of("VOLUME")[0]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
