"""Options take what is documented, and refuse everything else in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from inspect import signature
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddfm import InputError, Options, fuse
from ddfm.commands.fuse import fuse as fuse_command
from ddfm.commands.video import video as video_command
from ddfm.likelihoods.forms import FORMS
from ddfm.likelihoods.tasks import TASKS
from tests.conftest import examples

NAMES = [field.name for field in fields(Options) if field.name != "sources"]
NONSENSE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=5),
    st.lists(st.floats(), max_size=4),
    st.sampled_from(
        [*FORMS, *TASKS, "auto", "off", "none", "cpu", "meta", "cuda:99", "float32", "dense", object]
    ),
)


@examples(400)
@given(st.dictionaries(st.sampled_from(NAMES), NONSENSE, min_size=1, max_size=4))
def test_anything_is_taken_or_refused_in_one_line(values: dict[str, Any]) -> None:
    try:
        options = Options(**values)
    except InputError as error:
        refused = str(error)
    else:
        refused = ""
        assert options.evaluations >= 0
        assert options.torch_device.type != "meta"
    assert "\n" not in refused


def test_forms_have_defaults_of_their_own() -> None:
    assert Options().evaluations == 3
    assert Options(form="paper").evaluations == 100
    assert Options(form="released", steps=7).evaluations == 7
    assert Options(form="paper").noise_for(TASKS["infrared"]) == "off"
    assert Options().noise_for(TASKS["medical"]) == "off"
    assert Options().noise_for(TASKS["infrared"]) == "auto"
    with pytest.raises(InputError, match="steps 0: not within 1 to 1000 for form paper"):
        Options().but(form="paper", steps=0)


def test_fuse_takes_every_option_as_it_is() -> None:
    parameters = signature(fuse).parameters
    assert {name: (parameters[name].default, parameters[name].annotation) for name in NAMES} == {
        field.name: (field.default, field.type) for field in fields(Options) if field.name in NAMES
    }


@pytest.mark.parametrize(
    ("command", "own"),
    [(fuse_command, {"uncertainty", "source_map"}), (video_command, {"steps"})],
    ids=["fuse", "video"],
)
def test_commands_have_the_defaults_of_the_options(command: Callable[..., None], own: set[str]) -> None:
    """But for what a command says of its own: where to write, and no steps for a video."""
    parameters = signature(command).parameters
    shared = {name for name in NAMES if name in parameters} - own
    assert len(shared) >= 7
    assert {name: parameters[name].default for name in shared} == {
        field.name: field.default for field in fields(Options) if field.name in shared
    }


def test_options_are_picked_from_what_a_function_was_given() -> None:
    values = {"steps": 7, "seed": 3, "prior": "natural", "sources": ["a", "b", "c"]}
    assert Options.among(values, seed=4, sources=3) == Options(steps=7, seed=4, sources=3)
    with pytest.raises(InputError, match="steps 'many'"):
        Options.among({"steps": "many"})
