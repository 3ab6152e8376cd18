"""Decoders of segmentation-models-pytorch on encoders of several kinds, untrained."""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
import torch

from .registry import Example, register

CLASSES = 5

SIDES = {"pan": 128}  # others take 64

# Name: decoder, encoder, options.
TABLE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "unet": ("Unet", "resnet18", {"decoder_channels": (96, 72, 40, 24, 12)}),
    "unet-scse": ("Unet", "timm-mobilenetv3_small_minimal_100", {
        "decoder_channels": (60, 48, 40, 24, 20), "decoder_attention_type": "scse"}),
    "unet++": ("UnetPlusPlus", "mobilenet_v2", {"decoder_channels": (96, 72, 40, 24, 12)}),
    "fpn": ("FPN", "efficientnet-b0", {
        "decoder_pyramid_channels": 72, "decoder_segmentation_channels": 64}),
    "pspnet": ("PSPNet", "resnet18", {"psp_out_channels": 112}),
    "deeplabv3": ("DeepLabV3", "resnet18", {"decoder_channels": 48}),
    "deeplabv3+": ("DeepLabV3Plus", "mobilenet_v2", {"decoder_channels": 48}),
    "linknet": ("Linknet", "vgg11_bn", {}),
    "manet": ("MAnet", "resnet18", {
        "decoder_channels": (96, 72, 40, 24, 12), "decoder_pab_channels": 20}),
    "pan": ("PAN", "resnet18", {"decoder_channels": 20}),
    "upernet": ("UPerNet", "mit_b0", {"decoder_channels": 48}),
    "segformer": ("Segformer", "mit_b0", {"decoder_segmentation_channels": 72}),
    "dpt": ("DPT", "tu-vit_tiny_patch16_224", {
        "decoder_intermediate_channels": (24, 36, 40, 56), "decoder_fusion_channels": 20,
        "dynamic_img_size": True}),
}  # fmt: skip


def add(name: str, decoder: str, encoder: str, options: dict[str, Any]) -> None:
    if not hasattr(smp, decoder):
        return

    @register(f"smp/{name}", "segmentation-models")
    def build() -> Example:
        model = getattr(smp, decoder)(encoder, encoder_weights=None, classes=CLASSES, **options)
        side = SIDES.get(name, 64)
        return Example(model, (torch.randn(2, 3, side, side),))


for _name, _row in TABLE.items():
    add(_name, *_row)
