"""Fuse two arrays and watch the sampling.

python examples/fuse_arrays.py
"""

import numpy as np

import ddfm

rows, columns = np.mgrid[0:96, 0:128] / 96
warm = (rows - 0.5) ** 2 + (columns - 0.7) ** 2 < 0.04
thermal = np.where(warm, 0.9, 0.2).astype(np.float32)
visible = np.dstack([0.2 + 0.2 * columns, 0.4 + 0 * rows, 0.5 - 0.3 * rows]).astype(np.float32)

prior = ddfm.load_prior("natural")  # load once, fuse many
result = ddfm.fuse(
    thermal,
    visible,
    prior=prior,
    steps=10,
    callback=lambda step: print(f"step {step.index}: t = {step.timestep}"),
)
result.save("fused.tif")
print(result.settings)
