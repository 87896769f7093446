"""SegFormer and detectors of the DETR family, from transformers: built from configuration, or with weights.

Without weights they are small enough for a laptop. With weights they are what the weights say, with a new
last layer where classes differ. Weights are a folder, or a name on the hub, which transformers then
downloads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddfm.downstream.boxes import Boxes, make_boxes
from ddfm.errors import InputError

DETECTORS = ("yolos", "rt-detr", "d-fine")
FAINT = 0.01  # lower scores are no detections


class Segmenter(nn.Module):
    """SegFormer (Xie et al., NeurIPS 2021): pictures (B, 3, H, W) to logits (B, classes, H, W)."""

    def __init__(self, classes: int, weights: str | None = None) -> None:
        """Build it; raises InputError without transformers, or if the weights cannot be loaded."""
        super().__init__()
        library = transformers()
        if weights is None:
            config = library.SegformerConfig(
                num_labels=classes,
                depths=[1, 1, 1, 1],
                hidden_sizes=[16, 32, 64, 96],
                num_attention_heads=[1, 2, 2, 4],
                decoder_hidden_size=64,
            )
            self.model = library.SegformerForSemanticSegmentation(config)
        else:
            self.model = _loaded(library.SegformerForSemanticSegmentation, weights, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the logits, brought to the pictures' size."""
        logits = self.model(pixel_values=pictures).logits
        return F.interpolate(logits, size=pictures.shape[-2:], mode="bilinear", align_corners=False)


class TransformerDetector(nn.Module):
    """YOLOS, RT-DETR or D-FINE: pictures (B, 3, H, W), normalised, to boxes."""

    def __init__(self, kind: str, classes: int, weights: str | None = None) -> None:
        """Build it; raises InputError: no transformers, an unknown kind, weights that cannot be loaded."""
        super().__init__()
        if kind not in DETECTORS:
            raise InputError(f"unknown detector {kind!r}: {', '.join(DETECTORS)}")
        library = transformers()
        self.kind = kind
        model, config = _kinds(library)[kind]
        if weights is None:
            self.model = model(config(classes))
        else:
            self.model = _loaded(model, weights, classes)

    def loss(self, pictures: Tensor, boxes: Sequence[Boxes]) -> Tensor:
        """Return the model's own loss (bipartite matching; needs scipy)."""
        height, width = pictures.shape[-2:]
        scale = np.array([width, height, width, height])
        labels = []
        for found in boxes:
            low, high = found.xyxy[:, :2], found.xyxy[:, 2:]
            centred = np.concatenate([(low + high) / 2, high - low], 1) / scale
            numbers, places = torch.from_numpy(found.classes), torch.from_numpy(centred).float()
            device = pictures.device
            labels.append({"class_labels": numbers.to(device), "boxes": places.to(device)})
        loss: Tensor = self.model(pixel_values=pictures, labels=labels).loss
        return loss

    @torch.no_grad()
    def detect(self, pictures: Tensor) -> list[Boxes]:
        """Return the boxes in each picture, in its pixels."""
        output = self.model(pixel_values=pictures)
        # YOLOS has a softmax with "no object" as its last class.
        softmax = self.kind == "yolos"
        chances = output.logits.softmax(-1)[..., :-1] if softmax else output.logits.sigmoid()
        height, width = pictures.shape[-2:]
        scale = torch.tensor([width, height, width, height])
        return [_boxes(*pair, scale) for pair in zip(chances.cpu(), output.pred_boxes.cpu(), strict=True)]


def transformers() -> Any:
    """Import transformers; raises InputError with what to install."""
    try:
        import transformers as library
    except ImportError as error:
        raise InputError("this model needs transformers: pip install 'ddfm[downstream]'") from error
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


def _kinds(library: Any) -> dict[str, tuple[Any, Any]]:
    """Return model and small configuration, a function of the number of classes, by kind."""

    def yolos(classes: int) -> Any:
        return library.YolosConfig(
            num_labels=classes,
            hidden_size=96,
            num_hidden_layers=4,
            num_attention_heads=3,
            intermediate_size=192,
            image_size=[128, 160],
            num_detection_tokens=30,
            use_mid_position_embeddings=False,
        )

    small = {"d_model": 64, "decoder_layers": 2, "decoder_ffn_dim": 128, "decoder_attention_heads": 4}
    queries = {"num_queries": 50, "num_denoising": 0, "encoder_hidden_dim": 64, "encoder_ffn_dim": 128}
    channels = {"encoder_in_channels": [32, 64, 128], "decoder_in_channels": [64, 64, 64]}

    def rt_detr(classes: int) -> Any:
        backbone = library.RTDetrResNetConfig(
            embedding_size=16,
            hidden_sizes=[16, 32, 64, 128],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        )
        return library.RTDetrConfig(
            num_labels=classes, backbone_config=backbone, **small, **queries, **channels
        )

    def d_fine(classes: int) -> Any:
        backbone = library.HGNetV2Config(
            stem_channels=[3, 16, 16],
            stage_in_channels=[16, 16, 32, 64],
            stage_mid_channels=[8, 16, 32, 64],
            stage_out_channels=[16, 32, 64, 128],
            hidden_sizes=[16, 32, 64, 128],
            embedding_size=16,
            depths=[1, 1, 1, 1],
            out_features=["stage2", "stage3", "stage4"],
        )
        return library.DFineConfig(
            num_labels=classes, backbone_config=backbone, **small, **queries, **channels
        )

    return {
        "yolos": (library.YolosForObjectDetection, yolos),
        "rt-detr": (library.RTDetrForObjectDetection, rt_detr),
        "d-fine": (library.DFineForObjectDetection, d_fine),
    }


def _loaded(model: Any, weights: str, classes: int) -> Any:
    try:
        return model.from_pretrained(weights, num_labels=classes, ignore_mismatched_sizes=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{weights}: neither a folder nor a name with such weights ({reason})") from error


def _boxes(chances: Tensor, centred: Tensor, scale: Tensor) -> Boxes:
    """Return every class of every query above the threshold, cut to the picture."""
    queries, kinds = (chances > FAINT).nonzero(as_tuple=True)
    centre, size = centred[queries].split(2, 1)
    corners = torch.cat([centre - size / 2, centre + size / 2], 1).clamp(0, 1) * scale
    keep = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    scores = chances[queries, kinds][keep]
    return make_boxes(corners[keep].tolist(), kinds[keep].tolist(), scores.tolist())
