"""The bounds of docs/reference/numbers.md hold on small pictures, and the page shows what was measured."""

from __future__ import annotations

import numerical_trust as trust
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddfm import InputError, fuse
from ddfm.metrics import METRICS
from ddfm.priors.loading import load_prior
from tests.conftest import ROOT, examples, picture


def pair(seed: int = 1, side: int = 64) -> trust.Pair:
    return picture(side, side + 8, 1, np.uint8, seed), picture(side, side + 8, 3, np.uint8, seed + 1)


@given(st.integers(0, 10**6))
@examples(10)
def test_float32_is_as_good_as_float64_in_the_likelihoods(seed: int) -> None:
    for name, difference in trust.em_differences(trust.lumas(pair(seed))).items():
        assert difference <= trust.bound(name), name


def test_every_form_and_task_is_measured() -> None:
    rows = trust.em_differences(trust.lumas(pair()))
    assert len(rows) == 4 * 3 + 2 + 2
    assert any(rows.values())


@given(st.sampled_from(sorted(trust.extremes(16))), st.sampled_from(sorted(trust.extremes(16))))
@examples(20)
def test_extremes_fuse_to_finite_pictures(first: str, second: str) -> None:
    pictures = trust.extremes(24)
    sources = [pictures[first], pictures[second]]
    prior = load_prior()
    for options in (
        {"form": "paper", "steps": 1},
        {"form": "released", "steps": 1},
        {"task": "focus", "steps": 0},
    ):
        assert not trust.fault_of(sources, prior, **options)


def test_a_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def changes(a: trust.Picture, b: trust.Picture, **options: object) -> object:
        result = fuse(a, b, steps=0)
        a += 1
        return result

    monkeypatch.setattr(trust, "fuse", changes)
    sources = [array.copy() for array in (picture(32, 32, 1, np.uint8), picture(32, 32, 1, np.uint8, 1))]
    assert trust.fault_of(sources, load_prior()) == "a source was changed"


@given(st.sampled_from([name for name, array in trust.extremes(16).items() if array.itemsize == 1]))
@examples(10)
def test_metrics_of_extremes_are_numbers_within_their_range(name: str) -> None:
    pictures = {key: torch.from_numpy(array)[None, None] for key, array in trust.extremes(48).items()}
    images = [pictures[name], pictures["noise, 8 bit"], pictures["grey, 8 bit"]]
    wanted = [metric for metric in METRICS if metric != "MS_SSIM"]
    assert not trust.unsound_metrics(images, wanted)
    assert not trust.unsound_metrics(images[::-1], wanted)


def test_what_is_no_picture_is_refused() -> None:
    said = trust.refusals()
    assert all("replace them first" in text for name, text in said.items() if name != "one pixel wide")
    assert "at least 16x16 are needed" in said["one pixel wide"]
    with pytest.raises(InputError):
        fuse(np.full((16, 16), np.nan), np.zeros((16, 16)))


@pytest.mark.slow
def test_one_picture_whatever_computes_it() -> None:
    rows = trust.same_picture(pair(side=72), load_prior())
    for name, difference in rows.items():
        assert difference <= trust.bound(name), name
    assert {"again", "batch of 3", "2 threads", "likelihood in parts"} <= set(rows)
    assert rows["torch bfloat16"] > 0


def test_the_page_shows_what_was_measured() -> None:
    page = (ROOT / "docs" / "reference" / "numbers.md").read_text()
    measured = (ROOT / "benchmarks" / "results" / "numerical_trust.md").read_text()
    for line in measured.splitlines():
        assert line in page
