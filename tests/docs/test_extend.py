"""The code of docs/research/extend.md runs, and does what the page says."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from ddfm import Form, InputError, fuse
from ddfm.likelihoods.tasks import TASKS
from ddfm.priors import from_function
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "research" / "extend.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
MOST_LINES = 12


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """Return the names that the page defines, after all its code ran."""
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(block, names)
        if "fused" in names:
            assert names.pop("fused").shape == (64, 80)
    return names


def test_every_door_takes_few_lines() -> None:
    plugins = [block for block in BLOCKS if "fuse(" in block]
    assert len(plugins) == 5
    assert all(len([line for line in block.splitlines() if line]) <= MOST_LINES for block in plugins)


def test_an_own_likelihood_is_what_is_fused(page: dict[str, Any]) -> None:
    """Nearly the average: its estimate is pulled nine tenths of the way there."""
    a, b = page["a"], page["b"]
    fused = fuse(a, b, form=page["average"]).to_array()
    assert np.abs(fused - (a / 2 + b / 2)).mean() < 12
    three = fuse(a, b, a, form=page["average"])
    assert three.settings["form"] == "average"
    with pytest.raises(InputError, match="form two: is for two sources"):
        fuse(a, b, a, form=Form("two", page["Average"]))
    silent = Form("silent", page["Average"], steps=1, warm=True, tasks=True)
    with pytest.raises(InputError, match=r"source map: Average has no method choice"):
        fuse(a, b, form=silent, prior=from_function(page["shrink"]), source_map=True, task="infrared")


def test_an_own_prior_is_asked_at_the_noise_levels_of_the_steps(page: dict[str, Any]) -> None:
    asked: list[tuple[torch.Size, float]] = []

    def watched(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        asked.append((x.shape, float(sigma[0])))
        shrunk: torch.Tensor = page["shrink"](x, sigma)
        return shrunk

    prior = from_function(watched, channels=3, multiple=32)
    result = fuse(page["a"], page["b"], prior=prior, noise="off", task="infrared")
    assert result.settings["prior"] == "function"
    assert [shape for shape, _ in asked] == [(1, 3, 64, 96)] * 3
    levels = [level for _, level in asked]
    assert levels == sorted(levels, reverse=True)
    assert 0.6 < levels[0] < 0.8


def test_an_own_prior_has_a_name_and_noise_levels(page: dict[str, Any]) -> None:
    asked: list[float] = []

    def watched(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        asked.append(float(sigma[0]))
        return x

    levels = torch.tensor([0.1, 0.3, 0.9])
    prior = from_function(watched, name="nothing", sigmas=levels)
    result = fuse(page["a"], page["b"], prior=prior, noise="off", task="infrared", steps=2)
    assert result.settings["prior"] == "nothing"
    assert asked == pytest.approx([0.3, 0.1])  # 0.9 lies above a warm start's first level
    with pytest.raises(InputError, match="has only 2 timesteps"):
        fuse(page["a"], page["b"], prior=prior, noise="off", task="infrared", steps=3)
    for wrong in (levels.flip(0), torch.tensor([0.0, 1.0]), torch.tensor(0.5), torch.tensor([])):
        with pytest.raises(InputError, match="positive and increasing"):
            from_function(watched, sigmas=wrong)


def test_a_prior_that_is_none(page: dict[str, Any]) -> None:
    module = torch.nn.Conv2d(1, 1, 1)
    with pytest.raises(InputError, match=r"a Conv2d is no prior; .*from_function"):
        fuse(page["a"], page["b"], prior=module, steps=1)
    wrong = from_function(lambda x, sigma: x[..., ::2])
    with pytest.raises(InputError, match="prior function: returned shape"):
        fuse(page["a"], page["b"], prior=wrong, steps=1, task="infrared")
    nowhere = from_function(lambda x, sigma: x * float("nan"))
    with pytest.raises(InputError, match="not finite"):
        fuse(page["a"], page["b"], prior=nowhere, steps=1, task="infrared", noise="off")


def test_a_schedulers_word_is_the_next_sample(page: dict[str, Any]) -> None:
    """At the last step abar is 1: the result is the last rectified estimate, whatever the scheduler."""
    prior = from_function(page["shrink"])
    seen: list[Any] = []
    fuse(page["a"], page["b"], prior=prior, scheduler=page["Restart"], steps=3, callback=seen.append)
    assert torch.allclose(seen[-1].sample, seen[-1].rectified, atol=1e-6)
    assert not torch.allclose(seen[0].sample, seen[0].rectified, atol=1e-2)


def test_own_constants_are_those_that_count(page: dict[str, Any]) -> None:
    a, b = page["a"], page["b"]
    same = fuse(a, b, task=TASKS["infrared"], steps=0, noise="off").to_array()
    assert np.array_equal(same, fuse(a, b, task="infrared", steps=0, noise="off").to_array())
    calm = fuse(a, b, task=page["calm"], steps=0, noise="off")
    assert calm.settings["task"] == "calm"
    assert not np.array_equal(same, calm.to_array())
