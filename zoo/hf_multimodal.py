"""Language models of transformers that read images: a vision tower, a connector and a decoder."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from ._hf import BATCH, TARGET_LENGTH, TEXT, VISION, VOCAB, Inputs, add, pixels, tokens

Specs = list[tuple[str, str, dict[str, Any], Inputs]]

IMAGE = VOCAB - 1
VIDEO = VOCAB - 2
START = VOCAB - 3


def prompt(count: int, image_token: int = IMAGE) -> dict[str, Any]:
    """Text that opens with placeholders for the image."""
    ids = tokens(count + 9, vocab=VOCAB - 6)
    ids[:, :count] = image_token
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def seen(count: int, size: int = 32, **more: Any) -> Inputs:
    """One square image for each prompt, which it takes `count` placeholders of."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        return prompt(count) | {"pixel_values": pixels(size)} | more

    return inputs


def typed(count: int, key: str = "token_type_ids", size: int = 32) -> Inputs:
    """The same, with the kind of each token: text or image."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        given = seen(count, size)(model)
        return given | {key: (given["input_ids"] == IMAGE).long()}

    return inputs


def packed(patch: int, count: int = 4, frames: int = 2, started: bool = False) -> Inputs:
    """Images as one long row of flat patches, 16 each, which their grids tell apart."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        given = prompt(count)
        if started:
            ids = given["input_ids"]
            given["input_ids"] = torch.cat([torch.full_like(ids[:, :1], START), ids], dim=1)
            given["attention_mask"] = torch.ones_like(given["input_ids"])
        return given | {
            "pixel_values": torch.randn(16 * BATCH, 3 * frames * patch * patch),
            "image_grid_thw": torch.tensor([[1, 4, 4]] * BATCH),
            "mm_token_type_ids": (given["input_ids"] == IMAGE).int(),
        }

    return inputs


def one_tile(count: int, size: int = 32) -> Inputs:
    """Images that come as a list of one tile each."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        return prompt(count) | {"pixel_values": pixels(size).unsqueeze(1)}

    return inputs


def high_resolution(count: int, tiles: int) -> Inputs:
    """An overview and the tiles of a larger image, with that image's size."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        return prompt(count) | {
            "pixel_values": torch.randn(BATCH, tiles, 3, 32, 32),
            "image_sizes": torch.tensor([[64, 64]] * BATCH),
        }

    return inputs


def cross_attended(model: PreTrainedModel) -> dict[str, Any]:
    """One image of two tiles, which every token looks at."""
    ids = tokens()
    return {
        "input_ids": ids, "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(BATCH, 1, 2, 3, 32, 32),
        "aspect_ratio_ids": torch.full((BATCH, 1), 2),
        "aspect_ratio_mask": torch.ones(BATCH, 1, 2, dtype=torch.long),
        "cross_attention_mask": torch.ones(BATCH, ids.shape[1], 1, 2, dtype=torch.long),
    }


def sized(count: int) -> Inputs:
    """Images with their sizes."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        return seen(count, image_sizes=torch.tensor([[32, 32]] * BATCH))(model)

    return inputs


def asked(model: PreTrainedModel) -> dict[str, Any]:
    """An instruction for the query former, beside the prompt."""
    ids = torch.randint(5, 97, (BATCH, 12))
    return seen(6)(model) | {
        "qformer_input_ids": ids, "qformer_attention_mask": torch.ones_like(ids)}


def filmed(model: PreTrainedModel) -> dict[str, Any]:
    """The same for a video of two frames."""
    return asked(model) | prompt(12, VIDEO) | {"pixel_values": torch.randn(BATCH, 2, 3, 32, 32)}


def placed(model: PreTrainedModel) -> dict[str, Any]:
    """Text with a mask of the positions that the image takes."""
    ids = tokens()
    mask = torch.zeros_like(ids)
    mask[:, 1:7] = 1
    return {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels(32),
        "image_embeds_position_mask": mask,
    }


def flat_patches(model: PreTrainedModel) -> dict[str, Any]:
    """Text with images as rows of flat patches that open with their row and column."""
    place = torch.cartesian_prod(torch.arange(1, 4), torch.arange(1, 5))
    patches = torch.cat([place, torch.randn(12, 48)], dim=1).expand(BATCH, 12, 50).clone()
    patches[..., 2:] = torch.randn(BATCH, 12, 48)
    return placed(model) | {"flattened_patches": patches, "pixel_values": None}


def crops(model: PreTrainedModel) -> dict[str, Any]:
    """Images as flat patches, and which of them each placeholder pools."""
    pooled = torch.arange(16).reshape(1, 4, 4).repeat(BATCH, 1, 1)
    return prompt(4) | {
        "pixel_values": torch.randn(BATCH, 16, 192), "image_token_pooling": pooled.flatten(0, 1),
        "image_grids": torch.tensor([[2, 2, 0, 0]] * BATCH),
        "image_num_crops": torch.ones(BATCH, dtype=torch.long),
    }


def read_page(model: PreTrainedModel) -> dict[str, Any]:
    """An image with the text to be written."""
    given = prompt(5)
    return given | {"pixel_values": pixels(64), "decoder_input_ids": tokens(TARGET_LENGTH)}


_LLAMA = {"model_type": "llama"}
_QWEN2 = {"model_type": "qwen2"}
_CLIP = {"model_type": "clip_vision_model", "projection_dim": 52}
_SIGLIP = {"model_type": "siglip_vision_model", "vision_use_head": False}
_MARKS = {
    "image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": START,
    "vision_end_token_id": VOCAB - 4,
}
_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
_NARROW = _MROPE | {"mrope_section": [1, 1, 2]}
_ROPE = {"num_attention_heads": 3}  # for rotation in two directions
_QWEN_TOWER = {
    "depth": 2, "hidden_size": 72, "intermediate_size": 108, "num_heads": 3, "patch_size": 8,
    "out_hidden_size": 96,
}
_POSITIONS = {"num_position_embeddings": 36}
_MOE = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 44}
_ROUTED = {
    "n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 3,
    "moe_intermediate_size": 44, "first_k_dense_replace": 1, "n_group": 4, "topk_group": 2,
}
_DELTA = {
    "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 14,
    "linear_value_head_dim": 18, "linear_num_key_heads": 3, "linear_num_value_heads": 6,
}
_KINDS = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}
_GRIDS = {"image_grid_pinpoints": [[32, 64], [64, 64]]}
_QFORMER = {
    "vocab_size": 97, "hidden_size": 60, "intermediate_size": 88, "encoder_hidden_size": 72,
    "num_hidden_layers": 2, "num_attention_heads": 6,
}

_GLM_MARKS = {
    "image_token_id": IMAGE, "video_token_id": VIDEO, "image_start_token_id": START,
    "image_end_token_id": VOCAB - 4, "video_start_token_id": VOCAB - 5,
    "video_end_token_id": VOCAB - 6,
}

DECODERS: Specs = [
    ("qwen2-vl", "Qwen2VLForConditionalGeneration", _MARKS | {
        "text_config": {"rope_parameters": _MROPE},
        "vision_config": {
            "depth": 2, "embed_dim": 72, "hidden_size": 96, "mlp_ratio": 2, "num_heads": 3,
            "patch_size": 8}}, packed(8)),
    ("qwen2-5-vl", "Qwen2_5_VLForConditionalGeneration", _MARKS | {
        "text_config": {"rope_parameters": _MROPE},
        "vision_config": _QWEN_TOWER | {"window_size": 32, "fullatt_block_indexes": [1]}},
        packed(8)),
    ("qwen3-vl", "Qwen3VLForConditionalGeneration", _MARKS | {
        "text_config": {"rope_parameters": _MROPE | {"mrope_section": [2, 4, 4]}},
        "vision_config": _QWEN_TOWER | _POSITIONS | {"deepstack_visual_indexes": [0]}},
        packed(8)),
    ("qwen3-vl-moe", "Qwen3VLMoeForConditionalGeneration", _MARKS | {
        "text_config": _MOE | {"rope_parameters": _MROPE | {"mrope_section": [2, 4, 4]}},
        "vision_config": _QWEN_TOWER | _POSITIONS | {"deepstack_visual_indexes": [0]}},
        packed(8)),
    ("qwen3-5-vl", "Qwen3_5ForConditionalGeneration", _MARKS | {
        "text_config": _DELTA, "vision_config": _QWEN_TOWER | _POSITIONS}, packed(8)),
    ("qwen3-5-vl-moe", "Qwen3_5MoeForConditionalGeneration", _MARKS | {
        "text_config": _DELTA | _MOE | {"shared_expert_intermediate_size": 56},
        "vision_config": _QWEN_TOWER | _POSITIONS}, packed(8)),
    ("glm4v", "Glm4vForConditionalGeneration", _GLM_MARKS | {
        "text_config": {"rope_parameters": _MROPE},
        "vision_config": _QWEN_TOWER}, packed(8)),
    ("glm4v-moe", "Glm4vMoeForConditionalGeneration", _GLM_MARKS | {
        "text_config": _ROUTED | {"rope_parameters": _NARROW},
        "vision_config": _QWEN_TOWER}, packed(8)),
    ("exaone4-5", "Exaone4_5_ForConditionalGeneration", {
        "image_token_id": IMAGE, "video_token_id": VIDEO,
        "text_config": _KINDS | {"model_type": "exaone4"},
        "vision_config": _QWEN_TOWER | {
            "num_heads": 6, "num_key_value_heads": 3, "window_size": 32,
            "fullatt_block_indexes": [1]}}, packed(8)),
    ("paddleocr-vl", "PaddleOCRVLForConditionalGeneration", _MARKS | {
        "text_config": {"rope_parameters": _MROPE | {"mrope_section": [2, 4, 4]}},
        "vision_config": _ROPE},
        lambda model: packed(8)(model) | {"pixel_values": torch.randn(16 * BATCH, 3, 8, 8)}),
    ("gemma3-vl", "Gemma3ForConditionalGeneration", {
        "text_config": _KINDS | {"query_pre_attn_scalar": 20}, "vision_config": _SIGLIP,
        "mm_tokens_per_image": 4, "image_token_index": IMAGE, "boi_token_index": START,
        "eoi_token_index": VOCAB - 4}, typed(4)),
    ("mllama", "MllamaForConditionalGeneration", {
        "text_config": {"num_hidden_layers": 3, "cross_attention_layers": [1]},
        "vision_config": {
            "num_hidden_layers": 3, "num_global_layers": 2, "max_num_tiles": 2,
            "intermediate_layers_indices": [0, 2], "vision_output_dim": 216,
            "supported_aspect_ratios": [[1, 1], [1, 2]]},
        "image_token_index": IMAGE}, cross_attended),
    ("idefics2", "Idefics2ForConditionalGeneration", {
        "text_config": {"model_type": "mistral"}, "vision_config": {},
        "perceiver_config": {
            "hidden_size": 96, "resampler_n_latents": 6, "resampler_depth": 2,
            "resampler_n_heads": 4, "resampler_head_dim": 14, "num_key_value_heads": 2},
        "image_token_id": IMAGE}, one_tile(6)),
    ("smolvlm", "SmolVLMForConditionalGeneration", {
        "text_config": _LLAMA, "vision_config": {}, "scale_factor": 2,
        "image_token_id": IMAGE}, one_tile(4)),
    ("llava-next", "LlavaNextForConditionalGeneration", _GRIDS | {
        "text_config": _LLAMA, "vision_config": _CLIP, "image_token_index": IMAGE,
        "image_seq_length": 16}, high_resolution(88, 5)),
    ("llava-next-video", "LlavaNextVideoForConditionalGeneration", _GRIDS | {
        "text_config": _LLAMA, "vision_config": _CLIP, "image_token_index": IMAGE,
        "video_token_index": VIDEO, "image_seq_length": 16}, high_resolution(88, 5)),
    ("llava-onevision", "LlavaOnevisionForConditionalGeneration", _GRIDS | {
        "text_config": _QWEN2, "vision_config": _SIGLIP, "image_token_index": IMAGE,
        "video_token_index": VIDEO}, high_resolution(88, 5)),
    ("vipllava", "VipLlavaForConditionalGeneration", {
        "text_config": _LLAMA, "vision_config": _CLIP | {"num_hidden_layers": 3},
        "vision_feature_layer": [0, 2], "image_token_index": IMAGE, "image_seq_length": 16},
        seen(16)),
    ("video-llava", "VideoLlavaForConditionalGeneration", {
        "text_config": _LLAMA, "vision_config": _CLIP, "image_token_index": IMAGE,
        "video_token_index": VIDEO, "image_seq_length": 16, "video_seq_length": 136},
        lambda model: {
            k.replace("pixel_values", "pixel_values_images"): v
            for k, v in seen(16)(model).items()}),
    ("mistral3", "Mistral3ForConditionalGeneration", {
        "text_config": {"model_type": "mistral"}, "vision_config": {"model_type": "pixtral"},
        "image_token_index": IMAGE}, sized(4)),
    ("lighton-ocr", "LightOnOcrForConditionalGeneration", {
        "text_config": {"model_type": "qwen3"}, "vision_config": {"model_type": "pixtral"},
        "image_token_id": IMAGE}, sized(4)),
    ("llava-pixtral", "LlavaForConditionalGeneration", {
        "text_config": {"model_type": "mistral"}, "vision_config": {"model_type": "pixtral"},
        "vision_feature_layer": -1, "vision_feature_select_strategy": "full",
        "image_token_index": IMAGE, "image_seq_length": 16}, sized(16)),
    ("janus", "JanusForConditionalGeneration", {
        "text_config": _LLAMA,
        "vision_config": {"projection_dim": 96, "mlp_ratio": 1.5, "num_image_tokens": 16},
        "vq_config": {
            "embed_dim": 10, "num_embeddings": 44, "latent_channels": 20, "base_channels": 32,
            "channel_multiplier": [1, 2], "num_res_blocks": 1, "num_patches": 4,
            "projection_dim": 96, "image_token_embed_dim": 96},
        "image_token_id": IMAGE}, seen(16)),
    ("chameleon", "ChameleonForConditionalGeneration", {
        "vq_config": {
            "embed_dim": 10, "num_embeddings": 20, "latent_channels": 18, "resolution": 32,
            "base_channels": 32, "channel_multiplier": [1, 2], "num_res_blocks": 1,
            "attn_resolutions": [16]},
        "vocabulary_map": {"<image>": IMAGE} | {
            f"IMGIMG{a}{b}Z": 100 + 4 * i + j
            for i, a in enumerate("ABCDE") for j, b in enumerate("ABCD")}}, seen(256)),
    ("emu3", "Emu3ForConditionalGeneration", {
        "text_config": {"attention_dropout": 0.0},
        "vq_config": {
            "codebook_size": 20, "embed_dim": 10, "latent_channels": 10,
            "temporal_downsample_factor": 2, "base_channels": 32, "channel_multiplier": [1, 2],
            "num_res_blocks": 1, "attn_resolutions": [1], "hidden_size": 64},
        "vocabulary_map": {
            "<image>": IMAGE, "<|extra_200|>": VIDEO} | {
            f"<|visual token {i:06}|>": 100 + i for i in range(20)}},
        lambda model: prompt(20) | {
            "pixel_values": pixels(8), "image_sizes": torch.tensor([[8, 8]] * BATCH)}),
    ("fuyu", "FuyuForCausalLM", {
        "text_config": {"model_type": "persimmon"}, "image_size": 32, "patch_size": 8,
        "image_token_id": IMAGE},
        lambda model: prompt(6) | {"image_patches": torch.randn(BATCH, 6, 192)}),
    ("kosmos-2", "Kosmos2ForConditionalGeneration", {
        "text_config": {
            "embed_dim": 96, "layers": 2, "ffn_dim": 112, "attention_heads": 6},
        "vision_config": {}, "latent_query_num": 6}, placed),
    ("kosmos-2-5", "Kosmos2_5ForConditionalGeneration", {
        "text_config": {
            "embed_dim": 96, "layers": 2, "ffn_dim": 112, "attention_heads": 6},
        "vision_config": {"patch_embed_hidden_size": 48, "head_dim": 14, "max_num_patches": 40},
        "latent_query_num": 6}, flat_patches),
    ("florence2", "Florence2ForConditionalGeneration", {
        "text_config": {
            "model_type": "bart", "d_model": 96, "encoder_layers": 2, "decoder_layers": 2,
            "encoder_attention_heads": 6, "decoder_attention_heads": 4, "encoder_ffn_dim": 112,
            "decoder_ffn_dim": 104},
        "vision_config": {
            "depths": [1, 1, 1, 1], "embed_dim": [12, 20, 28, 40], "num_heads": [2, 4, 4, 5],
            "num_groups": [2, 4, 4, 5], "window_size": 3, "projection_dim": 96,
            "drop_path_rate": 0.0},
        "image_token_id": IMAGE}, read_page),
    ("instructblip", "InstructBlipForConditionalGeneration", {
        "vision_config": {}, "num_query_tokens": 6, "qformer_config": _QFORMER,
        "text_config": {"model_type": "opt", "ffn_dim": 112, "word_embed_proj_dim": 96},
        "image_token_index": IMAGE}, asked),
    ("instructblip-video", "InstructBlipVideoForConditionalGeneration", {
        "vision_config": {}, "num_query_tokens": 6, "qformer_config": _QFORMER,
        "text_config": {"model_type": "opt", "ffn_dim": 112, "word_embed_proj_dim": 96},
        "video_token_index": VIDEO}, filmed),
    ("got-ocr2", "GotOcr2ForConditionalGeneration", {
        "text_config": _QWEN2,
        "vision_config": {
            "output_channels": 40, "image_size": 128, "window_size": 3,
            "global_attn_indexes": [1], "mlp_dim": 108},
        "image_token_index": IMAGE, "image_seq_length": 16}, seen(16, 128)),
    ("aya-vision", "AyaVisionForConditionalGeneration", {
        "text_config": _KINDS | {"model_type": "cohere2"}, "vision_config": _SIGLIP,
        "image_token_index": IMAGE}, seen(4)),
    ("cohere2-vision", "Cohere2VisionForConditionalGeneration", {
        "text_config": _KINDS | {"model_type": "cohere2"}, "vision_config": _SIGLIP,
        "alignment_intermediate_size": 124, "image_token_id": IMAGE}, seen(4)),
    ("aria", "AriaForConditionalGeneration", {
        "text_config": {"moe_num_experts": 8, "moe_topk": 2, "moe_num_shared_experts": 2},
        "vision_config": {"model_type": "idefics3_vision"},
        "projector_patch_to_query_dict": {16: 6}, "image_token_index": IMAGE}, seen(6)),
    ("perception-lm", "PerceptionLMForConditionalGeneration", {
        "text_config": _LLAMA,
        "vision_config": {
            "model_type": "timm_wrapper", "architecture": "vit_pe_core_large_patch14_336",
            "model_args": {
                "embed_dim": 72, "img_size": [28, 28], "depth": 2, "num_heads": 3, "mlp_ratio": 2,
                "global_pool": ""}},
        "vision_use_cls_token": True, "image_token_id": IMAGE, "video_token_id": VIDEO},
        lambda model: prompt(4) | {"pixel_values": pixels(28).unsqueeze(1)}),
    ("ovis2", "Ovis2ForConditionalGeneration", {
        "text_config": _QWEN2,
        "vision_config": {"vocab_size": 50, "hidden_stride": 2},
        "visual_indicator_token_ids": [120, 121, 122, 123, 124], "image_token_id": IMAGE,
        "vocab_size": VOCAB, "hidden_size": 96}, seen(4)),
    ("molmo2", "Molmo2ForConditionalGeneration", {
        "text_config": {"additional_vocab_size": 13},
        "vision_config": {
            "num_key_value_heads": 4, "head_dim": 18, "image_size": [32, 32],
            "num_position_embeddings": 16},
        "adapter_config": {
            "vision_feature_layer": [0, 1], "num_attention_heads": 3, "num_key_value_heads": 3,
            "head_dim": 14, "hidden_size": 72, "intermediate_size": 124, "text_hidden_size": 96},
        "image_patch_id": IMAGE, "image_start_token_id": START, "image_end_token_id": VOCAB - 4,
        "low_res_image_start_token_id": VOCAB - 5},
        crops),
    ("idefics", "IdeficsForVisionText2Text", {
        "vision_config": {
            "embed_dim": 72, "image_size": 32, "patch_size": 8, "num_attention_heads": 4,
            "num_hidden_layers": 2, "intermediate_size": 108}, "use_resampler": True,
        "cross_layer_interval": 1,
        "perceiver_config": {
            "use_resampler": True, "resampler_n_latents": 6, "resampler_depth": 1,
            "resampler_n_heads": 3, "resampler_head_dim": 14}},
        lambda model: {
            "input_ids": tokens(), "pixel_values": pixels(32).unsqueeze(1),
            "image_attention_mask": torch.ones(BATCH, 17, 1, dtype=torch.long)}),
    ("lfm2-vl", "Lfm2VlForConditionalGeneration", {
        "text_config": {"model_type": "lfm2", "layer_types": ["conv", "full_attention"]},
        "vision_config": {
            "model_type": "siglip2_vision_model", "num_patches": 16, "vision_use_head": False},
        "projector_hidden_size": 124, "image_token_id": IMAGE},
        lambda model: prompt(4) | {
            "pixel_values": torch.randn(BATCH, 16, 192),
            "spatial_shapes": torch.tensor([[4, 4]] * BATCH),
            "pixel_attention_mask": torch.ones(BATCH, 16, dtype=torch.long)}),
    ("deepseek-vl", "DeepseekVLForConditionalGeneration", {
        "text_config": _LLAMA, "vision_config": _SIGLIP, "image_token_id": IMAGE}, seen(16)),
    ("modernvbert", "ModernVBertForMaskedLM", {
        "text_config": {
            "model_type": "modernbert", "local_attention": 8, "global_attn_every_n_layers": 2},
        "vision_config": _SIGLIP, "pixel_shuffle_factor": 2, "image_token_id": IMAGE},
        one_tile(4)),
    ("video-llama3", "VideoLlama3ForConditionalGeneration", {
        "text_config": _QWEN2, "vision_config": _ROPE, "image_token_id": IMAGE,
        "video_token_id": VIDEO},
        lambda model: prompt(4) | {
            "pixel_values": torch.randn(16 * BATCH, 192),
            "image_grid_thw": torch.tensor([[1, 4, 4]] * BATCH),
            "image_merge_sizes": torch.full((BATCH,), 2)}),
    ("ernie4-5-vl-moe", "Ernie4_5_VLMoeForConditionalGeneration", {
        "text_config": {
            "moe_intermediate_size": [44, 28], "moe_k": 2, "moe_num_experts": 8,
            "moe_num_shared_experts": 2, "mlp_layer_types": ["dense", "sparse"],
            "rope_parameters": _MROPE | {"mrope_section": [3, 3, 2]}},
        "vision_config": {
            "depth": 2, "num_heads": 3, "spatial_merge_size": 2},
        "image_token_id": IMAGE, "video_token_id": VIDEO, "image_start_token_id": START,
        "image_end_token_id": VOCAB - 4, "video_start_token_id": VOCAB - 5,
        "video_end_token_id": VOCAB - 6}, packed(8, frames=1)),
    ("hunyuan-vl", "HunYuanVLForConditionalGeneration", {
        "text_config": {"rope_parameters": _MROPE | {"mrope_section": [2, 4, 4]}},
        "vision_config": {"num_key_value_heads": 4, "text_hidden_size": 96,
            "out_hidden_size": 96},
        "image_token_id": IMAGE}, packed(8, count=8, frames=1)),
    ("kimi-k25", "Kimi_K25ForConditionalGeneration", _MARKS | {
        "text_config": _LLAMA,
        "vision_config": _ROPE | {"pos_emb_height": 6, "pos_emb_width": 6, "pos_emb_time": 2},
        "projection_hidden_size": 72},
        lambda model: prompt(4) | {
            "pixel_values": torch.randn(16 * BATCH, 3, 8, 8),
            "image_grid_thw": torch.tensor([[1, 4, 4]] * BATCH)}),
    ("muse-glimmer", "MuseGlimmerForConditionalGeneration", {
        "text_config": _KINDS, "vision_config": _ROPE | {"pos_emb_height": 6, "pos_emb_width": 6},
        "image_token_id": IMAGE, "video_token_id": VIDEO, "out_hidden_size": 288,
        "projector_hidden_size": 124}, packed(8)),
    ("qianfan-ocr", "QianfanOCRForConditionalGeneration", {
        "text_config": {"model_type": "qwen3"},
        "vision_config": {"image_size": [32, 32], "patch_size": [8, 8]},
        "image_token_id": IMAGE, "image_seq_length": 4}, seen(4)),
    ("step3p7", "Step3p7ForConditionalGeneration", {
        "text_config": _KINDS | _MOE | {
            "n_routed_experts": 8, "share_expert_dim": 56,
            "mlp_layer_types": ["dense", "sparse"]},
        "vision_config": _ROPE | {"mlp_ratio": 1.5}, "image_token_id": IMAGE}, seen(1, 32)),
    ("lfm3-vl", "Lfm3VlForConditionalGeneration", _MARKS | {
        "text_config": {
            "model_type": "lfm3", "layer_types": ["conv", "full_attention"], "conv_L_cache": 4},
        "vision_config": {"num_key_value_heads": 2}, "projector_hidden_size": 124}, packed(8)),
    ("gemma4-vl", "Gemma4ForConditionalGeneration", {
        "text_config": _KINDS | {
            "hidden_size_per_layer_input": 12, "vocab_size_per_layer_input": VOCAB},
        "vision_config": {
            "num_key_value_heads": 4, "head_dim": 20, "pooling_kernel_size": 2,
            "position_embedding_size": 12, "max_position_embeddings": 60},
        "audio_config": None, "image_token_id": IMAGE, "video_token_id": VIDEO,
        "audio_token_id": VOCAB - 6, "boi_token_id": START, "eoi_token_id": VOCAB - 4},
        lambda model: typed(4, "mm_token_type_ids")(model) | {
            "pixel_values": torch.rand(BATCH, 16, 192),
            "image_position_ids": torch.cartesian_prod(
                torch.arange(4), torch.arange(4)).expand(BATCH, 16, 2)}),
    ("glm-ocr", "GlmOcrForConditionalGeneration", _GLM_MARKS | {
        "text_config": {"rope_parameters": _MROPE},
        "vision_config": _QWEN_TOWER}, packed(8)),
    ("glm46v", "Glm46VForConditionalGeneration", _GLM_MARKS | {
        "text_config": {"model_type": "glm4v_text", "rope_parameters": _MROPE},
        "vision_config": _QWEN_TOWER | {"model_type": "glm4v_vision"}}, packed(8)),
    ("shieldgemma2", "ShieldGemma2ForImageClassification", {
        "text_config": _KINDS | {"model_type": "gemma3_text", "query_pre_attn_scalar": 20},
        "vision_config": _SIGLIP, "mm_tokens_per_image": 4, "image_token_index": IMAGE,
        "boi_token_index": START, "eoi_token_index": VOCAB - 4, "yes_token_index": 11,
        "no_token_index": 12}, typed(4)),
    ("deepseek-vl-hybrid", "DeepseekVLHybridForConditionalGeneration", {
        "text_config": _LLAMA, "vision_config": _SIGLIP,
        "high_res_vision_config": {
            "model_type": "sam_vision_model", "output_channels": 20, "image_size": 128,
            "patch_size": 16, "window_size": 3, "global_attn_indexes": [1], "mlp_dim": 108,
            "num_pos_feats": 10},
        "image_token_id": IMAGE}, seen(16, high_res_pixel_values=torch.randn(BATCH, 3, 128, 128))),
    ("qwen2-5-omni-thinker", "Qwen2_5OmniThinkerForConditionalGeneration", {
        "image_token_index": IMAGE, "video_token_index": VIDEO, "audio_token_index": VOCAB - 6,
        "audio_start_token_id": VOCAB - 5, "audio_end_token_id": VOCAB - 4,
        "vision_start_token_id": START, "vision_end_token_id": VOCAB - 7,
        "text_config": {"rope_parameters": _MROPE},
        "vision_config": _QWEN_TOWER | {"window_size": 32, "fullatt_block_indexes": [1]},
        "audio_config": {
            "d_model": 72, "encoder_layers": 2, "encoder_attention_heads": 4,
            "encoder_ffn_dim": 108, "num_mel_bins": 26, "max_source_positions": 30,
            "n_window": 10, "output_dim": 96}}, packed(8)),
    ("mistral-large4", "MistralLarge4ForConditionalGeneration", {
        "text_config": _ROUTED | {
            "num_key_value_heads": 6, "kv_lora_rank": 28, "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 14, "v_head_dim": 18, "index_topk": 6, "index_head_dim": 24,
            "index_n_heads": 4, "mlp_layer_types": ["dense", "sparse"]},
        "vision_config": {"model_type": "pixtral"}, "image_token_index": IMAGE}, sized(4)),
    ("minicpmv4-6", "MiniCPMV4_6ForConditionalGeneration", {
        "text_config": {"model_type": "qwen3"},
        "vision_config": {"image_size": 64, "insert_layer_id": 0}, "insert_layer_id": 0,
        "image_size": 64, "image_token_id": IMAGE, "video_token_id": VIDEO},
        lambda model: prompt(4) | {
            "pixel_values": torch.randn(1, 3, 8, 8 * 64 * BATCH),
            "target_sizes": torch.tensor([[8, 8]] * BATCH)}),
    ("granite-docling", "GraniteDoclingForConditionalGeneration", {
        "text_config": {}, "vision_config": {"scale_factor": 2, "out_hidden_size": 96},
        "image_token_id": IMAGE},
        lambda model: one_tile(4)(model) | {
            "pixel_attention_mask": torch.ones(BATCH, 1, dtype=torch.bool)}),
    ("colpali", "ColPaliForRetrieval", {
        "vlm_config": {
            "model_type": "paligemma", "text_config": {"model_type": "gemma"} | {
                k: v for k, v in TEXT.items() if k not in ("num_labels", "init_std")},
            "vision_config": _SIGLIP | {
                k: v for k, v in VISION.items() if k != "num_labels"},
            "image_token_index": IMAGE, "projection_dim": 96}, "embedding_dim": 26}, seen(16)),
]

for _name, _class, _own, _inputs in DECODERS:
    add("transformers-multimodal", _name, _class, TEXT, _own, _inputs)
