"""The network as OpenVINO computes it: exported once, kept beside the prior, run from any thread.

The export is a pair of files, network.xml and network.bin. Its folder's name is a digest of weights,
configuration and versions, so an export is never stale.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import sys
import warnings
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from platformdirs import user_cache_path
from torch import Tensor
from torch.jit._trace import TracerWarning

from ddfm.errors import InputError
from ddfm.formats.atomic import whole_folder
from ddfm.priors.normalisation import Statistics, fixed_statistics, normalisations
from ddfm.version import own_version

if TYPE_CHECKING:
    from ddfm.priors.foreign import Network

# OpenVINO's names of what a CPU is capable of, and of the hint to compute in it.
FORMATS = {torch.float32: ("FP32", "f32"), torch.bfloat16: ("BF16", "bf16"), torch.float16: ("FP16", "f16")}

logger = logging.getLogger("ddfm")
exporting = Lock()


@cache
def runtime() -> Any:
    """Return the package. Raises InputError if it is not installed."""
    # Without its telemetry, which tells OpenVINO's makers of every import and export and never asks.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise InputError(
            f"backend openvino: is not installed ({error}); pip install ddfm[openvino], or use backend torch"
        ) from error
    return openvino


@cache
def core() -> Any:
    """Return OpenVINO's core, one for the process."""
    return runtime().Core()


def check_openvino(device: torch.device, dtype: torch.dtype) -> None:
    """Raise InputError where OpenVINO is not installed, or cannot compute there or in that format."""
    capabilities = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if device.type != "cpu":
        raise InputError(f"backend openvino: computes on the CPU; device {device} is for backend torch")
    if FORMATS[dtype][0] not in capabilities:
        able = [str(known) for known, (name, _) in FORMATS.items() if name in capabilities]
        raise InputError(
            f"dtype {str(dtype).removeprefix('torch.')}: backend openvino does not have it on this CPU; use "
            f"dtype {' or '.join(able).replace('torch.', '')}"
        )


@dataclass(frozen=True)
class OpenVinoNetwork:
    """To be called like the network that it was exported from, by several threads at once.

    Attributes:
        whole: computes images in one piece.
        tile: computes tiles, whose normalisations take the statistics that they are given.
        statistics: these, (2, G): mean and variance of each group of each `normalisations`; None for images
            in one piece.
        dtype: of what comes and goes, whatever it computes in.
    """

    whole: Graph
    tile: Graph
    statistics: Tensor | None = None
    dtype: torch.dtype = torch.float32

    @classmethod
    def of(cls, network: Network, dtype: torch.dtype, folder: Path | None) -> OpenVinoNetwork:
        """Make the network compute in ``dtype``; export it if that was not done before.

        ``folder`` is the prior's, to keep the export in. Where it cannot be written, or there is none, that
        is the user's cache folder. See also `check_openvino`.
        """
        if (network.device.type, network.dtype) != ("cpu", torch.float32):
            network = copy.deepcopy(network).to("cpu", torch.float32)
        whole, tile = (Graph(network, fixed, dtype, folder) for fixed in (False, True))
        whole.model()  # here and not in the midst of the first picture
        return cls(whole, tile)

    def with_statistics(self, statistics: Statistics) -> OpenVinoNetwork:
        """Return this network with fixed statistics; see `ddfm.priors.normalisation.fixed_statistics`."""
        rows = zip(*statistics.values(), strict=True)
        return replace(self, statistics=torch.stack([torch.cat(row) for row in rows]))

    def __call__(self, x: Tensor, timestep: Tensor) -> Tensor:
        """Predict for x, (B, C, H, W), at timesteps (B,)."""
        if self.statistics is None:
            return self.whole.infer(x, timestep)
        return self.tile.infer(x, timestep, self.statistics)


@dataclass
class Graph:
    """A network, with or without statistics among its inputs, that is exported when it is first needed."""

    network: Network
    takes_statistics: bool
    dtype: torch.dtype
    folder: Path | None
    exported: Any = None
    idle: dict[int, list[Any]] = field(default_factory=dict)

    def infer(self, *inputs: Tensor) -> Tensor:
        """Infer with as many threads as torch has in the calling one."""
        # A request serves one caller at a time. More of them are made as there are more callers, each
        # compiled for itself: those of one compiled model would wait for each other.
        threads = torch.get_num_threads()
        idle = self.idle.setdefault(threads, [])
        try:
            request = idle.pop()
        except IndexError:
            request = self.compiled(threads).create_infer_request()
        outputs = request.infer([tensor.float().contiguous().numpy() for tensor in inputs])
        idle.append(request)
        return torch.from_numpy(outputs[0])

    def compiled(self, threads: int) -> Any:
        """Compile the network for so many threads."""
        # Dynamic in height and width: compiling takes longer than what a fixed size gains.
        return core().compile_model(
            self.model(),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": FORMATS[self.dtype][1],
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                "ENABLE_CPU_PINNING": False,  # two processes would be bound to the same core
            },
        )

    def model(self) -> Any:
        """Return the exported network: found beside the prior or in the cache, or made."""
        with exporting:
            if self.exported is None:
                self.exported = self._found() or self._made()
            return self.exported

    def _found(self) -> Any:
        for folder in self._export_folders:
            file = folder / "network.xml"
            if file.is_file():
                try:
                    return core().read_model(file)
                except RuntimeError as error:
                    raise InputError(f"{folder}: is damaged; delete it, and it will be made again") from error
        return None

    def _made(self) -> Any:
        model = export(self.network, self.takes_statistics)
        for folder in self._export_folders:
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                with whole_folder(folder) as partial:
                    runtime().save_model(model, partial / "network.xml", compress_to_fp16=False)
                return model
            except (OSError, InputError, RuntimeError):  # OpenVINO raises the latter for a full disk
                if folder.is_dir():  # another process was first
                    return model
        logger.warning(
            "the exported network is not kept: %s cannot be written", self._export_folders[-1].parent
        )
        return model

    @property
    def _export_folders(self) -> list[Path]:
        """List where the export may be found or put, the first choice first."""
        home = user_cache_path("ddfm", appauthor=False) / "openvino"
        beside = [self.folder / "openvino"] if self.folder is not None and self.folder.is_dir() else []
        return [folder / self._key for folder in (*beside, home)]

    @property
    def _key(self) -> str:
        """Return a name that stands for all that an export depends on."""
        config = self.network.as_json()
        versions = [own_version(), torch.__version__, runtime().__version__]
        text = json.dumps([config, versions, self.takes_statistics], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode())
        for name, tensor in self.network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:32]


class Traced(torch.nn.Module):
    """The network as a function of tensors alone."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, timestep: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Return the network's prediction, with fixed statistics if they are given."""
        if statistics is None:
            return self.network(x, timestep)
        layers = normalisations(self.network)
        parts = zip(*(row.split([layer.num_groups for layer in layers]) for row in statistics), strict=True)
        with fixed_statistics(self.network, dict(zip(layers, parts, strict=True))):
            return self.network(x, timestep)


def export(network: Network, takes_statistics: bool) -> Any:
    """Export the network as an openvino.Model of any height, width and number of images."""
    multiple = 2 ** (len(network.config.block_out_channels) - 1)
    inputs = [torch.zeros(2, network.config.in_channels, 2 * multiple, 3 * multiple), torch.zeros(2)]
    if takes_statistics:
        inputs.append(torch.ones(2, sum(layer.num_groups for layer in normalisations(network))))
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        # Of checks that are made of shapes, and branches for huge ones: no part of the graph.
        warnings.filterwarnings("ignore", category=TracerWarning)
        warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)  # which OpenVINO goes by
        return runtime().convert_model(Traced(network), example_input=tuple(inputs))
