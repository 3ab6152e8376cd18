"""Every torchvision model, untrained, with about the smallest input it takes."""

import inspect

import torch
from torchvision import models

from .registry import Example, register

# The first prefix that matches a model's name counts.
SIDES = {
    "densenet": 32,
    "inception_v3": 299,  # its auxiliary classifier takes nothing smaller
    "maxvit": 224,
    "quantized_inception_v3": 299,
    "quantized_res": 32,
    "resn": 32,
    "vgg": 32,
    "vit_h_14": 56,
    "wide_resnet": 32,
}
CLIPS = {
    "mc3": (4, 32, 32),
    "mvit": (16, 224, 224),
    "r2plus1d": (4, 32, 32),
    "r3d": (4, 32, 32),
    "s3d": (14, 224, 224),
    "swin3d": (4, 64, 64),
}
RCNN = ("fasterrcnn", "keypointrcnn", "maskrcnn")
DETECTORS = (*RCNN, "fcos", "retinanet", "ssd")
RESIZED = {"min_size": 96, "max_size": 128}
BOXES = {"box_score_thresh": 0.0, "box_detections_per_img": 10}
ANCHORS = {"score_thresh": 0.0, "detections_per_img": 10}

OPTIONS = {
    # Detectors resize what they are given, by default to 800 pixels, and drop what they are unsure
    # of, which in an untrained one is everything. The two SSDs have their size built in.
    **dict.fromkeys(RCNN, RESIZED | BOXES),
    **dict.fromkeys(("fcos", "retinanet"), RESIZED | ANCHORS),
    "ssd": ANCHORS,
    # The default draws from a truncated normal, slowly and with a warning.
    "googlenet": {"init_weights": False},
    "quantized_googlenet": {"init_weights": False},
    "inception_v3": {"init_weights": False},
    "quantized_inception_v3": {"init_weights": False},
    "vit_h_14": {"image_size": 56},
    "vit_": {"image_size": 64},
}


def lookup(table: dict, name: str, default: object) -> object:
    return next((value for prefix, value in table.items() if name.startswith(prefix)), default)


def inputs(name: str) -> tuple:
    """The positional arguments of one forward call."""
    if name.startswith("raft"):
        return torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128)
    if name.startswith(DETECTORS):
        return ([torch.rand(3, 96, 96), torch.rand(3, 80, 96)],)
    clip = lookup(CLIPS, name, None)
    if clip is not None:
        return (torch.randn(1, 3, *clip),)
    side = lookup(SIDES, name, 64)
    # The Inceptions' auxiliary classifiers normalise over a batch of single positions.
    batch = 1 if side > 100 and "inception" not in name else 2
    return (torch.randn(batch, 3, side, side),)


def add(name: str) -> None:
    builder = models.get_model_builder(name)
    options = dict(lookup(OPTIONS, name, {}))
    if "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None

    @register(f"torchvision/{name}", "torchvision")
    def build() -> Example:
        return Example(builder(weights=None, **options), inputs(name))


for _name in models.list_models():
    add(_name)
