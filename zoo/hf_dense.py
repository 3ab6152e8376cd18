"""Vision models of transformers that answer for places: masks, boxes, keypoints, depth, text."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from ._hf import BATCH, PYRAMID, TARGET_LENGTH, VISION, VOCAB, Inputs, add, pixels, tokens
from .hf_vision import _RESNET, _RT, _SWIN

Specs = list[tuple[str, str, dict[str, Any], Inputs]]


def images(size: int, batch: int = 2, **more: Any) -> Inputs:
    """Random square images of one size."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        return {"pixel_values": pixels(size, batch=batch)} | more

    return inputs


def pointed(size: int) -> Inputs:
    """Images with two points on the object that is asked for, and a box around it."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        corner = torch.rand(2, 1, 2) * size / 2
        return {
            "pixel_values": pixels(size, batch=2), "input_points": torch.rand(2, 1, 2, 2) * size,
            "input_labels": torch.ones(2, 1, 2, dtype=torch.long),
            "input_boxes": torch.cat([corner, corner + size / 3], dim=-1),
        }

    return inputs


def named(size: int, length: int = 9) -> Inputs:
    """Images with the words for what is asked for."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        ids = tokens(length, batch=2)
        return {
            "pixel_values": pixels(size, batch=2), "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
        }

    return inputs


def classes(model: PreTrainedModel) -> dict[str, Any]:
    """Images with the words of three classes and of a task."""
    ids, task = tokens(9, batch=6), tokens(7, batch=2)
    return {
        "pixel_values": pixels(96, batch=2), "classes_input_ids": ids,
        "classes_attention_mask": torch.ones_like(ids), "tasks_input_ids": task,
        "tasks_attention_mask": torch.ones_like(task), "classes_structure": torch.tensor([3, 3]),
    }


def tasked(model: PreTrainedModel) -> dict[str, Any]:
    """Images with the words of a task."""
    return {"pixel_values": pixels(64, batch=2), "task_inputs": tokens(11, batch=2)}


def two_views(size: int, channels: int = 3) -> Inputs:
    """Pairs of images to be matched."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        return {"pixel_values": torch.rand(2, 2, channels, size, size)}

    return inputs


def written(size: int) -> Inputs:
    """Images with the text that is in them."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        return {
            "pixel_values": pixels(size), "decoder_input_ids": tokens(TARGET_LENGTH)}

    return inputs


def patches(model: PreTrainedModel) -> dict[str, Any]:
    """Images as rows of flat patches that open with their row and column."""
    place = torch.cartesian_prod(torch.arange(1, 4), torch.arange(1, 5)).expand(BATCH, 12, 2)
    return {
        "flattened_patches": torch.cat([place, torch.randn(BATCH, 12, 48)], dim=-1),
        "decoder_input_ids": tokens(TARGET_LENGTH),
    }


def prompted_pair(model: PreTrainedModel) -> dict[str, Any]:
    """An image, and another one with its mask as the example to follow."""
    return {
        "pixel_values": pixels(32, batch=2), "prompt_pixel_values": pixels(32, batch=2),
        "prompt_masks": pixels(32, batch=2),
    }


def measured(model: PreTrainedModel) -> dict[str, Any]:
    """Images with a coarse map of the depth."""
    return {"pixel_values": pixels(64, batch=2), "prompt_depth": torch.rand(2, 1, 16, 16)}


_SAM_PROMPTS = {"hidden_size": 40, "image_size": 64, "patch_size": 8, "mask_input_channels": 12}
_SAM_MASKS = {
    "hidden_size": 40, "mlp_dim": 88, "num_attention_heads": 4, "iou_head_hidden_dim": 44,
}
_SAM_TOWER = {
    "output_channels": 40, "image_size": 64, "mlp_ratio": 1.5, "window_size": 3, "mlp_dim": 108,
    "global_attn_indexes": [1], "num_pos_feats": 20,
}
_HIERA = {
    "model_type": "sam2_hiera_det_model", "hidden_size": 12, "num_attention_heads": 1,
    "image_size": [128, 128], "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [12, 24, 48, 96], "query_stride": [2, 2],
    "num_attention_heads_per_stage": [1, 2, 4, 8],
    "window_size_per_stage": [4, 2, 4, 2], "global_attention_blocks": [3],
    "window_positional_embedding_background_size": [4, 4],
}
_DINO = {
    "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 112, "decoder_ffn_dim": 104,
    "num_queries": 9, "num_feature_levels": 4, "encoder_n_points": 2, "decoder_n_points": 3,
    "max_text_len": 16, "init_std": 0.1, "fusion_droppath": 0.0,
    "backbone_config": _SWIN | {"out_features": ["stage2", "stage3", "stage4"]},
    "text_config": {"model_type": "bert"},
}
_VIT_STAGES = {
    "num_hidden_layers": 4, "mlp_ratio": 2, "out_indices": [1, 2, 3, 4],
    "reshape_hidden_states": False, "image_size": 64, "patch_size": 16,
}
_DEPTH_TOWER = {
    "model_type": "dinov2", "hidden_size": 72, "num_hidden_layers": 3, "mlp_ratio": 2,
    "image_size": 32, "patch_size": 8, "num_attention_heads": 4,
}
_BERT = {"model_type": "bert", "is_decoder": True, "add_cross_attention": True}
_VIT = {"model_type": "vit", "image_size": 32, "patch_size": 8}

_GROUPED = {
    "d_model": 60, "decoder_layers": 2, "decoder_self_attention_heads": 6,
    "decoder_cross_attention_heads": 4, "decoder_ffn_dim": 104, "decoder_n_points": 2,
    "num_queries": 9, "group_detr": 3, "c2f_num_blocks": 1,
}
_RF_DETR = _GROUPED | {
    "backbone_config": {
        "model_type": "rf_detr_dinov2", "image_size": 64, "patch_size": 16, "mlp_ratio": 2,
        "num_windows": 2, "out_indices": [1, 2], "window_block_indexes": [1]},
}

SEGMENTATION: Specs = [
    ("sam", "SamModel", {
        "vision_config": _SAM_TOWER, "prompt_encoder_config": _SAM_PROMPTS,
        "mask_decoder_config": _SAM_MASKS}, pointed(64)),
    ("sam-hq", "SamHQModel", {
        "vision_config": _SAM_TOWER, "prompt_encoder_config": _SAM_PROMPTS,
        "mask_decoder_config": _SAM_MASKS | {"vit_dim": 72}}, pointed(64)),
    ("sam2", "Sam2Model", {
        "vision_config": {
            "model_type": "sam2_vision_model", "backbone_config": _HIERA,
            "backbone_channel_list": [96, 48, 24, 12],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]], "fpn_hidden_size": 40,
            "num_feature_levels": 3},
        "prompt_encoder_config": _SAM_PROMPTS | {"image_size": 128, "patch_size": 16},
        "mask_decoder_config": _SAM_MASKS}, pointed(128)),
    ("edgetam", "EdgeTamModel", {
        "vision_config": {
            "model_type": "edgetam_vision_model", "backbone_config": {
                "model_type": "timm_wrapper", "architecture": "repvit_m1.dist_in1k",
                "model_args": {
                    "in_chans": 3, "features_only": True, "out_indices": (0, 1, 2, 3),
                    "embed_dim": [12, 16, 24, 32], "depth": [1, 1, 2, 1]}},
            "backbone_channel_list": [32, 24, 16, 12],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]], "fpn_hidden_size": 40,
            "num_feature_levels": 3},
        "prompt_encoder_config": _SAM_PROMPTS | {"image_size": 128, "patch_size": 16},
        "mask_decoder_config": _SAM_MASKS}, pointed(128)),
    ("sam3", "Sam3Model", {
        "vision_config": {
            "backbone_config": {
                "model_type": "sam3_vit_model", "image_size": 56, "patch_size": 7,
                "pretrain_image_size": 28, "window_size": 4, "global_attn_indexes": [1],
                "num_attention_heads": 3},
            "fpn_hidden_size": 40, "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]]},
        "text_config": {"model_type": "clip_text_model", "projection_dim": 52, "eos_token_id": 3,
            "max_position_embeddings": 32},
        "geometry_encoder_config": {
            "hidden_size": 40, "num_layers": 1, "num_attention_heads": 4,
            "intermediate_size": 88},
        "detr_encoder_config": {
            "hidden_size": 40, "num_layers": 1, "num_attention_heads": 4,
            "intermediate_size": 92},
        "detr_decoder_config": {
            "hidden_size": 40, "num_layers": 2, "num_attention_heads": 4, "num_queries": 9,
            "intermediate_size": 104},
        "mask_decoder_config": {"hidden_size": 40, "num_attention_heads": 4}}, named(56)),
    ("oneformer", "OneFormerForUniversalSegmentation", {
        "backbone_config": _SWIN, "num_queries": 9, "task_seq_len": 11, "conv_dim": 64,
        "mask_dim": 64, "hidden_dim": 96, "encoder_feedforward_dim": 112, "encoder_layers": 2,
        "decoder_layers": 3, "num_attention_heads": 4, "dim_feedforward": 104,
        "query_dec_layers": 1, "text_encoder_vocab_size": VOCAB}, tasked),
    ("eomt", "EomtForUniversalSegmentation", {
        "mlp_ratio": 2, "num_blocks": 1, "num_queries": 9, "num_register_tokens": 3,
        "num_upscale_blocks": 1}, images(32)),
    ("eomt-dinov3", "EomtDinov3ForUniversalSegmentation", {
        "num_blocks": 1, "num_queries": 9, "num_register_tokens": 3, "num_upscale_blocks": 1,
        "num_attention_heads": 3}, images(32)),
    ("vitmatte", "VitMatteForImageMatting", {
        "hidden_size": 72, "convstream_hidden_sizes": [12, 16, 20],
        "fusion_hidden_sizes": [28, 24, 20, 14],
        "backbone_config": {
            "model_type": "vitdet", "num_channels": 4, "mlp_ratio": 2, "image_size": 64,
            "patch_size": 16, "pretrain_image_size": 64, "out_features": ["stage2"]}},
        lambda model: {"pixel_values": pixels(64, channels=4, batch=2)}),
    ("seggpt", "SegGptForImageSegmentation", {
        "image_size": [64, 32], "patch_size": 8, "mlp_dim": 108, "pretrain_image_size": 32,
        "decoder_hidden_size": 20, "num_hidden_layers": 3, "merge_index": 0,
        "intermediate_hidden_state_indices": [1, 2]}, prompted_pair),
    ("sapiens2-segmentation", "Sapiens2ForSemanticSegmentation", {
        "num_attention_heads": 3, "num_key_value_attention_heads": 3,
        "num_first_full_attention_layers": 1, "num_last_full_attention_layers": 1,
        "num_register_tokens": 2,
        "head_config": {
            "upsample_out_channels": [24, 20], "upsample_kernel_sizes": [4, 4],
            "conv_out_channels": [16], "conv_kernel_sizes": [1]}}, images(32)),
    ("videomt", "VideomtForUniversalSegmentation", {
        "mlp_ratio": 2, "num_blocks": 1, "num_queries": 9, "num_register_tokens": 3,
        "num_upscale_blocks": 1}, lambda model: {
            "pixel_values_videos": torch.randn(2, 3, 3, 32, 32)}),
    ("rf-detr-segmentation", "RfDetrForInstanceSegmentation", _RF_DETR, images(64)),
    ("maskformer-swin-backbone", "MaskFormerSwinBackbone", {
        k: v for k, v in _SWIN.items() if k != "model_type"}, images(64)),
]

DETECTION: Specs = [
    ("grounding-dino", "GroundingDinoForObjectDetection", _DINO, named(96)),
    ("mm-grounding-dino", "MMGroundingDinoForObjectDetection", _DINO, named(96)),
    ("omdet-turbo", "OmDetTurboForObjectDetection", {
        "text_config": {
            "model_type": "clip_text_model", "projection_dim": 96, "eos_token_id": 3},
        "backbone_config": _SWIN | {"out_features": ["stage2", "stage3", "stage4"]},
        "text_projection_in_dim": 96, "text_projection_out_dim": 96, "class_embed_dim": 96,
        "task_encoder_hidden_dim": 124, "num_queries": 9, "encoder_hidden_dim": 48,
        "vision_features_channels": [48, 48, 48], "encoder_in_channels": [24, 48, 96],
        "encoder_attention_heads": 6, "encoder_dim_feedforward": 112, "decoder_hidden_dim": 48,
        "decoder_num_heads": 4, "decoder_num_layers": 2, "decoder_dim_feedforward": 104,
        "decoder_num_points": 2, "image_size": 96,
        "apply_layernorm_after_vision_backbone": False}, classes),
    ("rf-detr", "RfDetrForObjectDetection", _RF_DETR, images(64)),
    ("lw-detr", "LwDetrForObjectDetection", _GROUPED | {
        "projector_scale_factors": [1.0],
        "backbone_config": {
            "model_type": "lw_detr_vit", "image_size": 64, "patch_size": 16, "mlp_ratio": 2,
            "num_windows": 4, "num_windows_side": 2, "out_indices": [1, 2],
            "window_block_indices": [1], "pretrain_image_size": 64}}, images(64)),
    ("d-fine", "DFineForObjectDetection", {
        k: v for k, v in _RT.items() if k != "decoder_n_points"} | {
        "decoder_n_points": [2, 2, 2], "max_num_bins": 10, "lqe_hidden_dim": 20,
        "top_prob_values": 3}, images(96)),
    ("deimv2", "Deimv2ForObjectDetection", {
        k: v for k, v in _RT.items() if k != "decoder_n_points"} | {
        "decoder_n_points": [2, 2, 2], "max_num_bins": 10, "lqe_hidden_dim": 20,
        "top_prob_values": 3}, images(96)),
    ("pp-doclayout-v3", "PPDocLayoutV3ForObjectDetection", {
        **_RT, "mask_feature_channels": [20, 20], "x4_feat_dim": 16, "num_prototypes": 10,
        "global_pointer_head_size": 14,
        "backbone_config": _RT["backbone_config"] | {
            "out_features": ["stage1", "stage2", "stage3", "stage4"]}}, images(96)),
    ("rt-detr-resnet-backbone", "RTDetrResNetBackbone", {
        k: v for k, v in _RT["backbone_config"].items() if k != "model_type"}, images(64)),
]

KEYPOINTS: Specs = [
    ("vitpose", "VitPoseForPoseEstimation", {
        "backbone_config": {
            "model_type": "vitpose_backbone", "image_size": [64, 48], "patch_size": [16, 16],
            "mlp_ratio": 2, "out_indices": [2]}},
        lambda model: {"pixel_values": torch.randn(2, 3, 64, 48)}),
    ("vitpose-moe", "VitPoseForPoseEstimation", {
        "use_simple_decoder": False,
        "backbone_config": {
            "model_type": "vitpose_backbone", "image_size": [64, 48], "patch_size": [16, 16],
            "mlp_ratio": 2, "num_experts": 6, "part_features": 20, "out_indices": [2]}},
        lambda model: {
            "pixel_values": torch.randn(2, 3, 64, 48), "dataset_index": torch.tensor([0, 3])}),
    ("superpoint", "SuperPointForKeypointDetection", {
        "encoder_hidden_sizes": [12, 16, 20, 24], "decoder_hidden_size": 28,
        "descriptor_decoder_dim": 36}, images(64)),
    ("superglue", "SuperGlueForKeypointMatching", {
        "hidden_size": 36, "keypoint_encoder_sizes": [10, 20], "sinkhorn_iterations": 3,
        "gnn_layers_types": ["self", "cross"],
        "keypoint_detector_config": {
            "model_type": "superpoint", "encoder_hidden_sizes": [12, 16, 20, 24],
            "decoder_hidden_size": 28, "descriptor_decoder_dim": 36}}, two_views(64)),
    ("lightglue", "LightGlueForKeypointMatching", {
        "descriptor_dim": 36, "num_hidden_layers": 2, "num_attention_heads": 3,
        "keypoint_detector_config": {
            "model_type": "superpoint", "encoder_hidden_sizes": [12, 16, 20, 24],
            "decoder_hidden_size": 28, "descriptor_decoder_dim": 36}}, two_views(64)),
    ("efficientloftr", "EfficientLoFTRForKeypointMatching", {
        "stage_num_blocks": [1, 1, 2, 1], "out_features": [16, 20, 24, 64], "hidden_size": 64,
        "stage_stride": [2, 1, 2, 2], "num_attention_layers": 1, "num_attention_heads": 8,
        "fine_matching_slice_dim": 4}, two_views(64)),
]

DEPTH: Specs = [
    ("zoedepth", "ZoeDepthForDepthEstimation", {
        "neck_hidden_sizes": [12, 16, 24, 32], "fusion_hidden_size": 28,
        "num_relative_features": 14,
        "bottleneck_features": 28, "num_attractors": [8, 4, 2, 1], "bin_embedding_dim": 18,
        "backbone_config": {
            "model_type": "beit", "num_hidden_layers": 4, "image_size": 64, "patch_size": 16,
            "reshape_hidden_states": False, "use_relative_position_bias": True,
            "out_features": ["stage1", "stage2", "stage3", "stage4"]}}, images(64)),
    ("depth-pro", "DepthProForDepthEstimation", {
        "patch_size": 32, "fusion_hidden_size": 28, "intermediate_hook_ids": [1, 0],
        "intermediate_feature_dims": [16, 20], "scaled_images_feature_dims": [24, 20],
        "scaled_images_ratios": [0.5, 1.0], "scaled_images_overlap_ratios": [0.0, 0.2],
        "image_model_config": _DEPTH_TOWER, "patch_model_config": _DEPTH_TOWER,
        "fov_model_config": _DEPTH_TOWER, "use_fov_model": True}, images(64)),
    ("prompt-depth-anything", "PromptDepthAnythingForDepthEstimation", {
        "patch_size": 16, "reassemble_hidden_size": 72, "neck_hidden_sizes": [12, 16, 24, 32],
        "fusion_hidden_size": 28, "head_hidden_size": 20,
        "backbone_config": _VIT_STAGES | {"model_type": "dinov2"}}, measured),
    ("chmv2", "CHMv2ForDepthEstimation", {
        "patch_size": 16, "post_process_channels": [12, 16, 24, 32], "fusion_hidden_size": 28,
        "head_hidden_size": 20, "number_output_channels": 22,
        "reassemble_factors": [4, 2, 1, 0.5],
        "backbone_config": {
            "model_type": "dinov3_vit", "num_hidden_layers": 4, "image_size": 64, "patch_size": 16,
            "num_attention_heads": 6, "num_register_tokens": 3, "return_class_token": True,
            "out_indices": [1, 2, 3, 4]}}, images(64)),
    ("tipsv2-dpt", "Tipsv2DptForDepthEstimation", {
        "neck_hidden_sizes": [12, 16, 24, 32], "fusion_hidden_size": 28, "num_depth_bins": 22,
        "backbone_config": _VIT_STAGES | {
            "model_type": "tipsv2_vision_model", "num_attention_heads": 4}}, images(64)),
    ("swin2sr", "Swin2SRForImageSuperResolution", {
        "image_size": 32, "patch_size": 1, "embed_dim": 36, "depths": [2, 2], "num_heads": [3, 6],
        "window_size": 4}, images(32)),
]

_HGNET = {
    "model_type": "hgnet_v2", "embedding_size": 12, "hidden_sizes": [24, 32, 40, 48],
    "stem_channels": [3, 8, 12], "stage_in_channels": [12, 24, 32, 40],
    "stage_mid_channels": [10, 14, 18, 22], "stage_out_channels": [24, 32, 40, 48],
    "stage_num_blocks": [1, 1, 2, 1], "stage_numb_of_layers": [2, 3, 2, 2],
}

READING: Specs = [
    ("donut-swin", "DonutSwinForImageClassification", {
        "patch_size": 4, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4],
        "window_size": 4, "mlp_ratio": 2.0, "image_size": 64}, images(64)),
    ("mgp-str", "MgpstrForSceneTextRecognition", {
        "image_size": [32, 64], "patch_size": 8, "max_token_length": 9, "mlp_ratio": 1.5,
        "num_character_labels": 38, "num_bpe_labels": 61, "num_wordpiece_labels": 67},
        lambda model: {"pixel_values": torch.randn(2, 3, 32, 64)}),
    ("pix2struct", "Pix2StructForConditionalGeneration", {
        "text_config": {
            "d_kv": 16, "d_ff": 112, "num_layers": 2, "num_heads": 6,
            "relative_attention_num_buckets": 10, "relative_attention_max_distance": 20},
        "vision_config": {
            "hidden_size": 96, "patch_embed_hidden_size": 48, "d_ff": 108, "d_kv": 18,
            "seq_len": 40}},
        patches),
    ("trocr", "TrOCRForCausalLM", {
        "d_model": 96, "decoder_layers": 2, "decoder_attention_heads": 6, "decoder_ffn_dim": 112,
        "vocab_size": VOCAB, "is_decoder": True, "use_cache": False, "init_std": 0.1},
        lambda model: {"input_ids": tokens()}),
    ("vision-encoder-decoder", "VisionEncoderDecoderModel", {
        "encoder": _VIT, "decoder": _BERT}, written(32)),
    ("vision-encoder-decoder-trocr", "VisionEncoderDecoderModel", {
        "encoder": _VIT, "decoder": {
            "model_type": "trocr", "d_model": 80, "decoder_layers": 2,
            "decoder_attention_heads": 4, "decoder_ffn_dim": 112, "cross_attention_hidden_size": 96,
            "is_decoder": True}}, written(32)),
    ("nougat", "VisionEncoderDecoderModel", {
        "encoder": {
            "model_type": "donut-swin", "image_size": 64, "patch_size": 4, "embed_dim": 24,
            "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
        "decoder": {
            "model_type": "mbart", "d_model": 96, "decoder_layers": 2,
            "decoder_attention_heads": 6, "decoder_ffn_dim": 112, "is_decoder": True,
            "add_cross_attention": True}}, written(64)),
    ("pp-ocrv5-mobile-det", "PPOCRV5MobileDetForObjectDetection", {
        "neck_out_channels": 16, "layer_list_out_channels": [12, 18, 24, 36],
        "backbone_config": {
            "model_type": "pp_lcnet_v3", "scale": 0.5,
            "out_features": ["stage2", "stage3", "stage4", "stage5"]}}, images(64)),
    ("pp-ocrv5-server-rec", "PPOCRV5ServerRecForTextRecognition", {
        "hidden_size": 40, "depth": 1, "head_out_channels": 61, "num_attention_heads": 4,
        "backbone_config": _HGNET | {"out_features": ["stage4"]}},
        lambda model: {"pixel_values": torch.randn(2, 3, 96, 192)}),
    ("slanet", "SLANetForTableRecognition", {
        "post_conv_out_channels": 20, "out_channels": 14, "hidden_size": 28,
        "max_text_length": 5,
        "backbone_config": {
            "model_type": "pp_lcnet", "scale": 0.25,
            "out_features": ["stage2", "stage3", "stage4", "stage5"]}}, images(64)),
    ("pp-lcnet-v3", "PPLCNetV3Backbone", {"scale": 0.5}, images(64)),
]


def framed(count: int, size: int = 32, batch: int = 2) -> Inputs:
    """Text and short videos."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        ids = tokens(14, batch=batch)
        ids[:, -1] = 2
        return {
            "input_ids": ids, "attention_mask": torch.ones_like(ids),
            "pixel_values": torch.randn(batch, count, 3, size, size),
        }

    return inputs


def unshaped(model: PreTrainedModel) -> dict[str, Any]:
    """Images as flat patches, with the grid each makes."""
    return {
        "pixel_values": torch.randn(BATCH, 16, 192),
        "spatial_shapes": torch.tensor([[4, 4]] * BATCH),
        "pixel_attention_mask": torch.ones(BATCH, 16, dtype=torch.long),
    }


def page(model: PreTrainedModel) -> dict[str, Any]:
    """Text with its boxes on a page, and what the page looks like."""
    corner = torch.rand(BATCH, 14, 2) / 2
    return {
        "input_ids": tokens(14), "bbox": torch.cat([corner, corner + 0.4], dim=-1),
        "pixel_values": pixels(32), "decoder_input_ids": tokens(TARGET_LENGTH),
    }


TOWERS: Specs = [
    ("pixtral-vision", "PixtralVisionModel", {"num_attention_heads": 3}, images(32)),
    ("clip-vision", "CLIPVisionModelWithProjection", {"projection_dim": 52}, images(32)),
    ("siglip-vision", "SiglipVisionModel", {}, images(32)),
    ("dinov3-vit-gated", "DINOv3ViTModel", {
        "num_attention_heads": 6, "num_register_tokens": 3, "use_gated_mlp": True}, images(32)),
    ("instructblip-vision", "InstructBlipVisionModel", {}, images(32)),
    ("idefics3-vision", "Idefics3VisionTransformer", {}, images(32)),
    ("phi4-multimodal-vision", "Phi4MultimodalVisionModel", {"crop_size": 32}, images(32)),
    ("mllama-vision", "MllamaVisionModel", {
        "num_hidden_layers": 3, "num_global_layers": 2, "max_num_tiles": 2,
        "intermediate_layers_indices": [0, 2], "vision_output_dim": 216,
        "supported_aspect_ratios": [[1, 1], [1, 2]]},
        lambda model: {
            "pixel_values": torch.randn(2, 1, 2, 3, 32, 32),
            "aspect_ratio_ids": torch.full((2, 1), 2),
            "aspect_ratio_mask": torch.ones(2, 1, 2, dtype=torch.long)}),
    ("internvl-vision", "InternVLVisionModel", {
        "image_size": [32, 32], "patch_size": [8, 8]}, images(32)),
    ("llama4-vision", "Llama4VisionModel", {
        "num_attention_heads": 3, "intermediate_size": 288, "vision_output_dim": 60,
        "projector_input_dim": 60, "projector_output_dim": 60}, images(32)),
    ("janus-vqvae", "JanusVQVAE", {
        "embed_dim": 10, "num_embeddings": 44, "latent_channels": 20, "base_channels": 32,
        "channel_multiplier": [1, 2], "num_res_blocks": 1, "num_patches": 16,
        "projection_dim": 96, "image_token_embed_dim": 96}, images(32)),
    ("vision-text-dual-encoder", "VisionTextDualEncoderModel", {
        "vision_config": _VIT, "text_config": {"model_type": "bert"}, "projection_dim": 52},
        lambda model: {"input_ids": tokens(14), "pixel_values": pixels(32)}),
    ("tvp", "TvpForVideoGrounding", {
        "hidden_size": 96, "num_attention_heads": 6, "num_frames": 2, "max_img_size": 64,
        "visual_prompt_size": 8, "vocab_size": VOCAB, "max_grid_col_position_embeddings": 12,
        "max_grid_row_position_embeddings": 14, "max_position_embeddings": 50,
        "backbone_config": _RESNET | {"out_features": ["stage4"]}}, framed(2, 64, batch=1)),
    ("xclip", "XCLIPModel", {
        "text_config": {}, "projection_dim": 52, "prompt_layers": 1,
        "prompt_num_attention_heads": 4,
        "vision_config": {
            "mit_hidden_size": 52, "mit_intermediate_size": 88, "mit_num_attention_heads": 4,
            "num_frames": 3}}, framed(3)),
    ("siglip2", "Siglip2Model", {
        "text_config": {"projection_size": 72}, "vision_config": {"num_patches": 16}},
        lambda model: unshaped(model) | {"input_ids": tokens(14)}),
    ("siglip2-classifier", "Siglip2ForImageClassification", {
        "vision_config": {"num_patches": 16}}, unshaped),
    ("aimv2", "Aimv2Model", {
        "text_config": {"eos_token_id": 2}, "vision_config": {}, "projection_dim": 52},
        lambda model: {
            "input_ids": torch.cat([tokens(13), torch.full((BATCH, 1), 2)], dim=1),
            "pixel_values": pixels(32)}),
    ("aimv2-vision", "Aimv2VisionModel", {}, images(32)),
    ("mlcd", "MLCDVisionModel", {"num_attention_heads": 3}, images(32)),
    ("radio", "RadioModel", {"mlp_ratio": 1.5, "max_img_size": 64}, images(32)),
    ("videoprism", "VideoPrismVisionModel", {
        "num_frames": 3, "tubelet_size": [1, 8, 8], "num_spatial_layers": 2,
        "num_temporal_layers": 1}, lambda model: {
            "pixel_values_videos": torch.randn(2, 3, 3, 32, 32)}),
    ("pixio", "PixioModel", {"mlp_ratio": 2, "n_cls_tokens": 3}, images(32)),
    ("tipsv2", "Tipsv2Model", {
        "text_config": {"hidden_size": 72, "num_attention_heads": 4}, "vision_config": {
            "mlp_ratio": 2}}, lambda model: {
                "input_ids": tokens(14), "pixel_values": pixels(32)}),
    ("udop", "UdopForConditionalGeneration", {
        "d_model": 96, "d_kv": 14, "d_ff": 112, "num_layers": 2, "num_decoder_layers": 2,
        "num_heads": 6, "vocab_size": VOCAB,
        "max_2d_position_embeddings": 60, "image_size": 32,
        "patch_size": 8, "use_cache": False, "decoder_start_token_id": 1}, page),
    ("bros", "BrosForTokenClassification", {
        "hidden_size": 128, "num_attention_heads": 4, "vocab_size": VOCAB,
        "max_position_embeddings": 50},
        lambda model: {"input_ids": tokens(14), "bbox": torch.rand(BATCH, 14, 8)}),
    ("timm-wrapper-resnet", "TimmWrapperForImageClassification", {
        "architecture": "resnet18", "model_args": {
            "layers": [1, 1, 1, 1], "channels": [12, 16, 24, 32]}}, images(64)),
    ("timm-wrapper-vit", "TimmWrapperForImageClassification", {
        "architecture": "vit_tiny_patch16_224", "model_args": {
            "img_size": 64, "embed_dim": 72, "depth": 2, "num_heads": 4}}, images(64)),
    ("timm-wrapper-swin", "TimmWrapperModel", {
        "architecture": "swin_tiny_patch4_window7_224", "model_args": {
            "img_size": 64, "embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4),
            "window_size": 4}}, images(64)),
    ("timm-backbone", "TimmBackbone", {
        "backbone": "resnet18", "out_indices": [1, 2, 3, 4]}, images(64)),
]

for _family, _specs in (
    ("transformers-vision", SEGMENTATION), ("transformers-detection", DETECTION),
    ("transformers-vision", KEYPOINTS), ("transformers-vision", DEPTH),
    ("transformers-vision", READING), ("transformers-vision", TOWERS),
):
    for _name, _class, _own, _inputs in _specs:
        add(_family, _name, _class, PYRAMID if _specs is DETECTION else VISION, _own, _inputs)
