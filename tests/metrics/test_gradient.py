from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from ddfm.metrics import nabf, qabf
from tests.metrics.pictures import Array, array, picture, triple


def literal_nabf(a: Array, b: Array, f: Array) -> float:
    def edges(x: Array) -> tuple[Array, Array]:
        gx, gy = (ndimage.sobel(x, axis, mode="mirror") / 8 for axis in (1, 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            angle = np.where((gx == 0) & (gy == 0), 0, np.arctan(gy / gx))
        return np.hypot(gx, gy), angle

    g_f, angle_f = edges(f)
    lost, weights, strongest = np.zeros_like(f), 0.0, np.zeros_like(f)
    for source in (a, b):
        g, angle = edges(source)
        kept = np.zeros_like(f)
        for at in np.ndindex(f.shape):
            low, high = sorted((g[at], g_f[at]))
            relative = low / high if low > 0 else 0.0
            alignment = abs(abs(angle[at] - angle_f[at]) - np.pi / 2) * 2 / np.pi
            strength = 0.9999 / (1 + np.exp(-19 * (relative - 0.5)))
            orientation = 0.9995 / (1 + np.exp(-22 * (alignment - 0.5)))
            kept[at] = np.sqrt(strength * orientation)
        weight = np.where(g >= 2, g**1.5, 0.001)
        lost += (1 - kept) * weight
        weights += weight.sum()
        strongest = np.maximum(strongest, g)
    return float((lost * (g_f > strongest)).sum() / weights)


def test_nabf_against_a_literal_transcription() -> None:
    a, b, f = triple(20, 23)
    sharper = (f * 1.4).clamp(0, 255).round()
    for fused in (f, sharper, picture(9, 20, 23)):
        expected = literal_nabf(*(array(image) for image in (a, b, fused)))
        assert expected > 0
        assert nabf(a, b, fused).item() == pytest.approx(expected, rel=1e-12)


def test_nabf_finds_no_artefact_where_a_source_is_copied() -> None:
    a, b, _ = triple()
    assert nabf(a, b, a).item() == 0
    assert nabf(a, b, b).item() == 0


def test_a_copy_keeps_97_percent_of_the_edges() -> None:
    a, _, _ = triple()
    # Every strength counts as its own grey value (>= 1), every angle as equal.
    perfect = 0.9994 * 0.9879 / (1 + np.exp(-22 * 0.2))
    assert qabf(a, a, a).item() == pytest.approx(perfect, rel=2e-3)


def test_qabf_is_lost_with_the_edges() -> None:
    a, b, f = triple()
    blurred = torch.nn.functional.avg_pool2d(f, 5, 1, 2)
    assert qabf(a, b, blurred).item() < 0.8 * qabf(a, b, f).item()


def test_black_sources_have_no_edges_to_keep() -> None:
    black = torch.zeros(1, 1, 8, 8)
    assert qabf(black, black, picture(0, 8, 8)).item() == 0


def test_exactly_equal_strengths_count_as_their_grey_value() -> None:
    """The inherited quirk: a faint copy in fractions of a level scores less than the same in levels."""
    a = picture(3, 20, 20)
    faint = a / 2550
    assert qabf(faint, faint, faint).item() < 0.5 * qabf(a, a, a).item()
