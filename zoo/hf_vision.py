"""Vision models of transformers: classifiers, segmentation, depth and detection."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from ._hf import PYRAMID, VISION, Inputs, add, pixels

Specs = list[tuple[str, str, dict[str, Any]]]


def images(size: int, batch: int = 5) -> Inputs:
    """Random square images of one size."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        return {"pixel_values": pixels(size, batch=batch)}

    return inputs


def clips(frames: int, size: int, key: str = "pixel_values") -> Inputs:
    """Random short videos."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        return {key: torch.randn(2, frames, 3, size, size)}

    return inputs


def noisy_images(model: PreTrainedModel) -> dict[str, Any]:
    """Images with fixed masking noise, so that two forward passes agree."""
    return {"pixel_values": pixels(32), "noise": torch.rand(5, 16)}


def colour_tokens(model: PreTrainedModel) -> dict[str, Any]:
    """Images as rows of colour cluster numbers."""
    return {"input_ids": torch.randint(0, 60, (5, 36))}


TRANSFORMERS: Specs = [
    ("vit", "ViTForImageClassification", {}),
    ("deit", "DeiTForImageClassification", {}),
    ("deit-distilled", "DeiTForImageClassificationWithTeacher", {}),
    ("beit", "BeitForImageClassification", {"use_relative_position_bias": True}),
    ("data2vec-vision", "Data2VecVisionForImageClassification", {
        "use_shared_relative_position_bias": True}),
    ("vit-msn", "ViTMSNForImageClassification", {}),
    ("dinov2", "Dinov2ForImageClassification", {"mlp_ratio": 2}),
    ("dinov2-swiglu", "Dinov2ForImageClassification", {"mlp_ratio": 2, "use_swiglu_ffn": True}),
    ("dinov2-registers", "Dinov2WithRegistersForImageClassification", {
        "mlp_ratio": 2, "num_register_tokens": 3}),
    ("dinov3-vit", "DINOv3ViTModel", {"num_attention_heads": 6, "num_register_tokens": 3}),
    ("ijepa", "IJepaForImageClassification", {}),
    ("vitdet", "VitDetModel", {"mlp_ratio": 2, "pretrain_image_size": 32}),
    ("yolos", "YolosForObjectDetection", {"num_detection_tokens": 9, "image_size": [32, 32]}),
]

_STAGES = {"hidden_sizes": [16, 24, 40, 56], "depths": [1, 1, 2, 1]}
_HEADS = {"num_attention_heads": [1, 2, 5, 4], "sr_ratios": [8, 4, 2, 1]}

PYRAMIDS: Specs = [
    ("swin", "SwinForImageClassification", {
        "patch_size": 4, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4,
        "mlp_ratio": 2.0, "image_size": 64}),
    ("swinv2", "Swinv2ForImageClassification", {
        "patch_size": 4, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4,
        "mlp_ratio": 2.0, "image_size": 64}),
    ("convnext", "ConvNextForImageClassification", _STAGES | {"patch_size": 4}),
    ("convnextv2", "ConvNextV2ForImageClassification", _STAGES | {"patch_size": 4}),
    ("dinov3-convnext", "DINOv3ConvNextModel", _STAGES),
    ("resnet", "ResNetForImageClassification", _STAGES | {"embedding_size": 12}),
    ("resnet-basic", "ResNetForImageClassification", _STAGES | {
        "embedding_size": 12, "layer_type": "basic"}),
    ("regnet-x", "RegNetForImageClassification", _STAGES | {
        "embedding_size": 12, "groups_width": 8, "layer_type": "x"}),
    ("regnet-y", "RegNetForImageClassification", _STAGES | {
        "embedding_size": 12, "groups_width": 8, "layer_type": "y"}),
    ("mobilenet-v1", "MobileNetV1ForImageClassification", {"depth_multiplier": 0.25}),
    ("mobilenet-v2", "MobileNetV2ForImageClassification", {"depth_multiplier": 0.25}),
    ("mobilevit", "MobileViTForImageClassification", {
        "patch_size": 2, "hidden_sizes": [36, 48, 60],
        "neck_hidden_sizes": [8, 12, 16, 20, 24, 28, 72]}),
    ("mobilevitv2", "MobileViTV2ForImageClassification", {
        "patch_size": 2, "base_attn_unit_dims": [40, 48, 56], "n_attn_blocks": [1, 2, 1],
        "width_multiplier": 0.5}),
    ("segformer", "SegformerForImageClassification", _STAGES | _HEADS),
    ("segformer-segmentation", "SegformerForSemanticSegmentation", _STAGES | _HEADS | {
        "decoder_hidden_size": 44}),
    ("glpn", "GLPNForDepthEstimation", _STAGES | _HEADS | {"decoder_hidden_size": 44}),
    ("poolformer", "PoolFormerForImageClassification", _STAGES | {"mlp_ratio": 2.0}),
    ("pvt", "PvtForImageClassification", _STAGES | {
        "num_attention_heads": [1, 2, 5, 4], "mlp_ratios": [4, 4, 2, 2], "image_size": 64}),
    ("pvt-v2", "PvtV2ForImageClassification", _STAGES | _HEADS | {"mlp_ratios": [4, 4, 2, 2]}),
    ("pvt-v2-linear", "PvtV2ForImageClassification", _STAGES | _HEADS | {
        "mlp_ratios": [4, 4, 2, 2], "linear_attention": True}),
    ("cvt", "CvtForImageClassification", {
        "embed_dim": [16, 36, 60], "num_heads": [1, 3, 6], "depth": [1, 2, 3],
        "mlp_ratio": [2.0, 2.0, 2.0]}),
    ("hiera", "HieraForImageClassification", {
        "image_size": [64, 64], "patch_size": [7, 7], "embed_dim": 12, "depths": [1, 1, 2, 1],
        "num_heads": [1, 2, 3, 4], "masked_unit_size": [8, 8]}),
    ("levit", "LevitForImageClassification", {
        "image_size": 64, "patch_size": 16, "hidden_sizes": [32, 48, 72], "depths": [1, 2, 1],
        "num_attention_heads": [2, 3, 4], "key_dim": [10, 12, 14]}),
    ("efficientnet", "EfficientNetForImageClassification", {
        "width_coefficient": 0.35, "depth_coefficient": 0.4, "hidden_dim": 448}),
    ("focalnet", "FocalNetForImageClassification", {
        "patch_size": 4, "embed_dim": 20, "hidden_sizes": [20, 40, 80], "depths": [1, 2, 1],
        "focal_levels": [2, 2, 2], "focal_windows": [3, 3, 3], "image_size": 64}),
    ("bit", "BitForImageClassification", _STAGES | {
        "embedding_size": 12, "num_groups": 4}),
    ("bit-bottleneck", "BitForImageClassification", _STAGES | {
        "embedding_size": 12, "num_groups": 4, "layer_type": "bottleneck"}),
    ("swiftformer", "SwiftFormerForImageClassification", {
        "depths": [1, 1, 2, 1], "embed_dims": [16, 24, 40, 56]}),
    ("hgnet-v2", "HGNetV2ForImageClassification", {
        "embedding_size": 12, "hidden_sizes": [24, 32, 40, 48], "stem_channels": [3, 8, 12],
        "stage_in_channels": [12, 24, 32, 40], "stage_mid_channels": [10, 14, 18, 22],
        "stage_out_channels": [24, 32, 40, 48], "stage_num_blocks": [1, 1, 2, 1],
        "stage_numb_of_layers": [2, 3, 2, 2]}),
    ("textnet", "TextNetForImageClassification", {
        "hidden_sizes": [12, 16, 24, 32, 40], "stem_out_channels": 12, "image_size": [64, 64],
        "conv_layer_kernel_sizes": [
            [[3, 3]], [[3, 3], [1, 3]], [[3, 3], [3, 1]], [[3, 3]]],
        "conv_layer_strides": [[2], [2, 1], [2, 1], [2]]}),
    ("pp-lcnet", "PPLCNetForImageClassification", {"scale": 0.25, "class_expand": 88}),
]

_SWIN = {
    "model_type": "swin", "image_size": 64, "patch_size": 4, "embed_dim": 12,
    "depths": [1, 1, 2, 1], "num_heads": [2, 3, 4, 6], "window_size": 4,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
_RESNET = _STAGES | {
    "model_type": "resnet", "embedding_size": 12,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
_CONVNEXT = _STAGES | {
    "model_type": "convnext", "patch_size": 4,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
_DETR = {
    "d_model": 60, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 6,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 112, "decoder_ffn_dim": 104, "num_queries": 9,
    "backbone_config": _RESNET | {"out_features": ["stage4"]},
}
_THREE_LEVELS = _RESNET | {"out_features": ["stage2", "stage3", "stage4"]}
_RT = {
    "encoder_hidden_dim": 48, "encoder_in_channels": [24, 40, 56], "encoder_ffn_dim": 112,
    "encoder_attention_heads": 6, "d_model": 48, "num_queries": 9,
    "decoder_in_channels": [48, 48, 48], "decoder_ffn_dim": 104, "decoder_layers": 2,
    "decoder_attention_heads": 4, "decoder_n_points": 2, "num_denoising": 0,
    "hidden_expansion": 0.5,
    "backbone_config": {
        "model_type": "rt_detr_resnet", "embedding_size": 16, "hidden_sizes": [16, 24, 40, 56],
        "depths": [1, 1, 2, 1], "layer_type": "basic",
        "out_features": ["stage2", "stage3", "stage4"]},
}

DENSE: Specs = [
    ("beit-segmentation", "BeitForSemanticSegmentation", {
        "num_hidden_layers": 4, "out_indices": [1, 2, 3, 4], "use_relative_position_bias": True,
        "auxiliary_channels": 44, "image_size": 64, "patch_size": 16}),
    ("mobilenet-v2-segmentation", "MobileNetV2ForSemanticSegmentation", {
        "depth_multiplier": 0.25}),
    ("dpt", "DPTForDepthEstimation", {
        "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "image_size": 64,
        "patch_size": 16, "neck_hidden_sizes": [12, 16, 24, 32], "fusion_hidden_size": 28}),
    ("depth-anything", "DepthAnythingForDepthEstimation", {
        "patch_size": 16, "reassemble_hidden_size": 72, "neck_hidden_sizes": [12, 16, 24, 32],
        "fusion_hidden_size": 28, "head_hidden_size": 20,
        "backbone_config": {
            "model_type": "dinov2", "image_size": 64, "patch_size": 16, "num_hidden_layers": 4,
            "mlp_ratio": 2, "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False}}),
    ("upernet-swin", "UperNetForSemanticSegmentation", {
        "hidden_size": 28, "auxiliary_channels": 20, "auxiliary_in_channels": 48,
        "backbone_config": _SWIN}),
    ("upernet-convnext", "UperNetForSemanticSegmentation", {
        "hidden_size": 28, "auxiliary_channels": 20, "auxiliary_in_channels": 40,
        "backbone_config": _CONVNEXT}),
    ("mask2former", "Mask2FormerForUniversalSegmentation", {
        "feature_size": 64, "mask_feature_size": 32, "hidden_dim": 96, "encoder_layers": 2,
        "encoder_feedforward_dim": 112, "decoder_layers": 3, "num_attention_heads": 4,
        "dim_feedforward": 104, "num_queries": 9, "backbone_config": _SWIN}),
    ("maskformer", "MaskFormerForInstanceSegmentation", {
        "fpn_feature_size": 64, "mask_feature_size": 36,
        "backbone_config": _SWIN,
        "decoder_config": {
            "model_type": "detr", "d_model": 60, "encoder_layers": 1, "decoder_layers": 2,
            "encoder_attention_heads": 6, "decoder_attention_heads": 4, "encoder_ffn_dim": 112,
            "decoder_ffn_dim": 104, "num_queries": 9}}),
    ("detr", "DetrForObjectDetection", _DETR),
    ("table-transformer", "TableTransformerForObjectDetection", _DETR),
    ("conditional-detr", "ConditionalDetrForObjectDetection", _DETR),
    ("deformable-detr", "DeformableDetrForObjectDetection", _DETR | {
        "num_feature_levels": 3, "encoder_n_points": 2, "decoder_n_points": 3,
        "encoder_attention_heads": 4, "d_model": 64, "backbone_config": _THREE_LEVELS}),
    ("dab-detr", "DabDetrForObjectDetection", {
        "hidden_size": 48, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 6,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 112, "decoder_ffn_dim": 104,
        "num_queries": 9, "backbone_config": _RESNET | {"out_features": ["stage4"]}}),
    ("rt-detr", "RTDetrForObjectDetection", _RT),
    ("rt-detr-v2", "RTDetrV2ForObjectDetection", _RT | {"decoder_n_levels": 3}),
]

_MAE = {
    "decoder_num_attention_heads": 6, "decoder_hidden_size": 48, "decoder_num_hidden_layers": 1,
    "decoder_intermediate_size": 88,
}

SPECIAL: list[tuple[str, str, dict[str, Any], Inputs]] = [
    ("vit-mae", "ViTMAEForPreTraining", _MAE, noisy_images),
    ("imagegpt", "ImageGPTForImageClassification", {
        "vocab_size": 61, "n_positions": 40, "n_embd": 72, "n_layer": 2, "n_head": 4,
        "n_inner": 108, "use_cache": False}, colour_tokens),
    ("timesformer", "TimesformerForVideoClassification", {"num_frames": 3}, clips(3, 32)),
    ("vivit", "VivitForVideoClassification", {
        "num_frames": 6, "tubelet_size": [2, 8, 8]}, clips(6, 32)),
    ("videomae", "VideoMAEForVideoClassification", _MAE | {"num_frames": 6}, clips(6, 32)),
    ("vjepa2", "VJEPA2ForVideoClassification", {
        "crop_size": 32, "frames_per_clip": 6, "mlp_ratio": 2.0, "num_pooler_layers": 1,
        "pred_hidden_size": 48, "pred_num_attention_heads": 4, "pred_num_hidden_layers": 1,
        "pred_num_mask_tokens": 3}, clips(6, 32, "pixel_values_videos")),
]

for _name, _class, _own in TRANSFORMERS:
    _family = "detection" if _name == "yolos" else "vision"
    add(f"transformers-{_family}", _name, _class, VISION, _own, images(32))
for _name, _class, _own in PYRAMIDS:
    add("transformers-vision", _name, _class, PYRAMID, _own, images(64))
for _name, _class, _own in DENSE:
    _family = "detection" if "detr" in _name or "table" in _name else "vision"
    _size, _base = (96, PYRAMID) if _family == "detection" else (64, VISION)
    add(f"transformers-{_family}", _name, _class, _base, _own, images(_size, batch=2))
for _name, _class, _own, _inputs in SPECIAL:
    add("transformers-vision", _name, _class, VISION, _own, _inputs)
