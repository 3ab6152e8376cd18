"""Detectors, segmenters and classifiers of ultralytics, where it is installed, untrained.

Ultralytics is under the AGPL, so that no extra of ours asks for it.
"""

from __future__ import annotations

import os

os.environ.setdefault("YOLO_OFFLINE", "True")  # nothing is fetched, and nobody is asked

import torch
from ultralytics.nn import tasks

from .registry import Example, register

SIDE = 64
CLASSES = 7

KINDS = {
    "cls": "ClassificationModel",
    "obb": "OBBModel",
    "pose": "PoseModel",
    "rtdetr": "RTDETRDetectionModel",
    "seg": "SegmentationModel",
    "world": "WorldModel",
}
NAMES = (
    "yolov3-tiny", "yolov5n", "yolov6n", "yolov8n", "yolov8n-cls", "yolov8n-ghost", "yolov8n-obb",
    "yolov8n-p2", "yolov8n-pose", "yolov8n-seg", "yolov9t", "yolov10n", "yolo11n", "yolo11n-seg",
    "yolo12n", "yolo26n",
)  # fmt: skip


def add(name: str) -> None:
    kind = KINDS.get(name.split("-")[-1], "DetectionModel")

    @register(f"ultralytics/{name}", "ultralytics")
    def build() -> Example:
        model = getattr(tasks, kind)(f"{name}.yaml", nc=CLASSES, verbose=False)
        return Example(model, (torch.randn(2, 3, SIDE, SIDE),))


for _name in NAMES:
    add(_name)
