"""Fuse two arrays and watch the sampling.

python examples/fuse_arrays.py
"""

import numpy as np

import ddfm

rng = np.random.default_rng(0)
rows, columns = np.mgrid[0:96, 0:128] / 96
thermal = np.where((rows - 0.5) ** 2 + (columns - 0.7) ** 2 < 0.04, 0.9, 0.2).astype(np.float32)
visible = np.dstack([0.2 + 0.3 * columns / columns.max(), 0.4 + 0 * rows, 0.5 - 0.3 * rows]).astype(
    np.float32
)

prior = ddfm.load_prior("natural")  # load once, fuse many
result = ddfm.fuse(
    thermal,
    visible,
    prior=prior,
    steps=10,
    callback=lambda step: print(
        f"t = {step.timestep:3d}: moved {(step.rectified - step.prediction).abs().mean():.3f}"
    ),
)
result.save("fused.tif")
print(result.settings)
