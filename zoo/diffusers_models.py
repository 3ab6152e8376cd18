"""Denoisers, autoencoders and adapters of diffusers, small and untrained.

A model that the installed diffusers does not have is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from torch import Tensor

from .registry import Example, register

Inputs = Callable[[], dict[str, Any]]
TIME = (3, 7)


def time() -> Tensor:
    return torch.tensor(TIME)


def x(*shape: int) -> Tensor:
    return torch.randn(shape)


def add(name: str, class_name: str, inputs: Inputs, **config: Any) -> None:
    if not hasattr(diffusers, class_name):
        return

    @register(f"diffusers/{name}", "diffusers")
    def build() -> Example:
        model = getattr(diffusers, class_name)(**config)
        given = inputs()
        return Example(model, given.pop("args", ()), given)


# --- U-Nets --------------------------------------------------------------------------------------

CROSS = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (24, 40), "layers_per_block": 1, "norm_num_groups": 8,
    "cross_attention_dim": 28, "attention_head_dim": 4,
}  # fmt: skip
SOLID = {
    **CROSS,
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
}


def latents(*shape: int, words: int = 28) -> Inputs:
    """A noisy image or film, the time, and a text of five words."""
    return lambda: {
        "sample": x(*shape), "timestep": time(), "encoder_hidden_states": x(shape[0], 5, words)
    }  # fmt: skip


add("unet-1d", "UNet1DModel", lambda: {"sample": x(2, 3, 64), "timestep": time()},
    in_channels=3, out_channels=2, block_out_channels=(32, 40, 64), extra_in_channels=64,
    down_block_types=("DownBlock1DNoSkip", "DownBlock1D", "AttnDownBlock1D"),
    up_block_types=("AttnUpBlock1D", "UpBlock1D", "UpBlock1DNoSkip"))  # fmt: skip
add("unet-2d", "UNet2DModel", lambda: {"sample": x(2, 3, 16, 16), "timestep": time()},
    in_channels=3, out_channels=5, layers_per_block=1, block_out_channels=(24, 40),
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"), norm_num_groups=8)  # fmt: skip
add("unet-2d-classes", "UNet2DModel", lambda: {
    "sample": x(2, 3, 16, 16), "timestep": time(), "class_labels": torch.tensor([1, 4])},
    in_channels=3, out_channels=5, layers_per_block=1, block_out_channels=(24, 40),
    down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D"), norm_num_groups=8,
    resnet_time_scale_shift="scale_shift", num_class_embeds=9)  # fmt: skip
add("unet-conditional", "UNet2DConditionModel", latents(2, 4, 8, 8), out_channels=3, **CROSS)
add("unet-conditional-xl", "UNet2DConditionModel", lambda: latents(2, 4, 8, 8)() | {
    "added_cond_kwargs": {"text_embeds": x(2, 26), "time_ids": x(2, 6)}},
    **CROSS | {"attention_head_dim": (3, 5), "transformer_layers_per_block": (1, 2)},
    use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
    projection_class_embeddings_input_dim=74)  # fmt: skip
add("unet-conditional-simple", "UNet2DConditionModel", latents(2, 4, 8, 8),
    **CROSS | {"down_block_types": ("SimpleCrossAttnDownBlock2D", "ResnetDownsampleBlock2D"),
               "up_block_types": ("ResnetUpsampleBlock2D", "SimpleCrossAttnUpBlock2D")},
    mid_block_type="UNetMidBlock2DSimpleCrossAttn", only_cross_attention=True,
    resnet_time_scale_shift="scale_shift")  # fmt: skip
add("unet-3d", "UNet3DConditionModel", latents(2, 4, 3, 8, 8), **SOLID)
add("unet-i2vgen", "I2VGenXLUNet", lambda: latents(2, 4, 3, 8, 8)() | {
    "fps": torch.tensor([8, 16]), "image_latents": x(2, 4, 3, 8, 8),
    "image_embeddings": x(2, 28)},
    **SOLID | {"block_out_channels": (32, 64)})  # fmt: skip
add("unet-motion", "UNetMotionModel", lambda: latents(2, 4, 3, 8, 8)() | {
    "encoder_hidden_states": x(6, 5, 28)},
    **{k: v for k, v in CROSS.items() if k != "attention_head_dim"}
    | {"down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
       "up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion")},
    num_attention_heads=4, motion_num_attention_heads=4)  # fmt: skip
add("unet-spatio-temporal", "UNetSpatioTemporalConditionModel", lambda: {
    "sample": x(2, 3, 8, 16, 16), "timestep": time(), "encoder_hidden_states": x(2, 1, 28),
    "added_time_ids": x(2, 3)},
    block_out_channels=(32, 64), num_attention_heads=(4, 8), cross_attention_dim=28,
    down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    layers_per_block=1, num_frames=3, addition_time_embed_dim=8,
    projection_class_embeddings_input_dim=24)  # fmt: skip
add("unet-kandinsky3", "Kandinsky3UNet", lambda: latents(2, 4, 8, 8, words=26)() | {
    "encoder_attention_mask": torch.ones(2, 5)},
    time_embedding_dim=36, groups=4, attention_head_dim=8, layers_per_block=3,
    block_out_channels=(16, 24, 40, 56), cross_attention_dim=28, encoder_hid_dim=26)  # fmt: skip
add("unet-stable-cascade", "StableCascadeUNet", lambda: {
    "sample": x(2, 4, 8, 8), "timestep_ratio": torch.rand(2), "clip_text_pooled": x(2, 1, 26),
    "clip_text": x(2, 5, 22), "clip_img": x(2, 1, 18)},
    in_channels=4, out_channels=4, timestep_ratio_embedding_dim=12, conditioning_dim=28,
    block_out_channels=(24, 40), num_attention_heads=(4, 5), down_num_layers_per_block=(1, 1),
    up_num_layers_per_block=(1, 1), clip_text_in_channels=22, clip_text_pooled_in_channels=26,
    clip_image_in_channels=18, clip_seq=2)  # fmt: skip
add("uvit", "UVit2DModel", lambda: {
    "input_ids": torch.randint(30, (2, 4, 4)), "encoder_hidden_states": x(2, 5, 22),
    "pooled_text_emb": x(2, 14), "micro_conds": x(2, 5)},
    hidden_size=48, cond_embed_dim=14, micro_cond_encode_dim=4, micro_cond_embed_dim=20,
    encoder_hidden_size=22, vocab_size=33, codebook_size=31, in_channels=28, block_out_channels=32,
    num_res_blocks=1, block_num_heads=4, num_hidden_layers=2, num_attention_heads=6,
    intermediate_size=56, sample_size=4)  # fmt: skip

# --- Autoencoders --------------------------------------------------------------------------------

FOLD = {
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
    "layers_per_block": 1, "norm_num_groups": 8,
}  # fmt: skip


def image(side: int = 16) -> Inputs:
    return lambda: {"sample": x(2, 3, side, side)}


def film(frames: int = 5, side: int = 16) -> Inputs:
    return lambda: {"sample": x(2, 3, frames, side, side)}


add("vae", "AutoencoderKL", image(), block_out_channels=(24, 40), latent_channels=5, **FOLD)
add("vae-asymmetric", "AsymmetricAutoencoderKL", lambda: image()() | {
    "mask": torch.ones(2, 1, 16, 16)},
    down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    down_block_out_channels=(24, 40), up_block_out_channels=(32, 48), latent_channels=5,
    norm_num_groups=8)  # fmt: skip
add("vae-tiny", "AutoencoderTiny", image(), encoder_block_out_channels=(24, 24),
    decoder_block_out_channels=(28, 28), num_encoder_blocks=(1, 2), num_decoder_blocks=(2, 1),
    latent_channels=5)  # fmt: skip
add("vae-dc", "AutoencoderDC", image(), latent_channels=8, attention_head_dim=6,
    encoder_block_types=("ResBlock", "EfficientViTBlock"),
    decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(24, 48),
    decoder_block_out_channels=(24, 48), encoder_layers_per_block=(1, 1),
    decoder_layers_per_block=(1, 1), encoder_qkv_multiscales=((), (5,)),
    decoder_qkv_multiscales=((), (5,)))  # fmt: skip
add("vae-sound", "AutoencoderOobleck", lambda: {"sample": x(2, 2, 64)}, encoder_hidden_size=12,
    downsampling_ratios=[2, 4], channel_multiples=[1, 2], decoder_channels=10,
    decoder_input_channels=6)  # fmt: skip
add("vae-temporal", "AutoencoderKLTemporalDecoder", lambda: {
    "sample": x(4, 3, 16, 16), "num_frames": 2}, block_out_channels=(32, 64),
    down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=5)  # fmt: skip
add("vae-cogvideox", "AutoencoderKLCogVideoX", film(),
    down_block_types=("CogVideoXDownBlock3D",) * 2, up_block_types=("CogVideoXUpBlock3D",) * 2,
    block_out_channels=(16, 24), latent_channels=5,
    layers_per_block=1, norm_num_groups=4, temporal_compression_ratio=2)  # fmt: skip
add("vae-wan", "AutoencoderKLWan", film(), base_dim=12, z_dim=6, dim_mult=[1, 2],
    num_res_blocks=1, temperal_downsample=[True], latents_mean=[0.0] * 6, latents_std=[1.0] * 6,
    )  # fmt: skip
add("vae-ltx", "AutoencoderKLLTXVideo", film(9, 32), latent_channels=8,
    block_out_channels=(12, 20), decoder_block_out_channels=(16, 24), layers_per_block=(1, 1, 1),
    decoder_layers_per_block=(1, 1, 1), spatio_temporal_scaling=(True, False),
    decoder_spatio_temporal_scaling=(True, False), decoder_inject_noise=(False,) * 3,
    down_block_types=("LTXVideoDownBlock3D",) * 2, downsample_type=("conv", "conv"),
    upsample_residual=(False, False), upsample_factor=(1, 1))  # fmt: skip
add("vq", "VQModel", image(), block_out_channels=(24, 40), num_vq_embeddings=26,
    vq_embed_dim=7, **FOLD)  # fmt: skip

# --- Transformers --------------------------------------------------------------------------------

HEADS = {"num_attention_heads": 4, "attention_head_dim": 12, "num_layers": 2}

add("dit", "DiTTransformer2DModel", lambda: {
    "hidden_states": x(2, 4, 8, 8), "timestep": time(), "class_labels": torch.tensor([1, 4])},
    in_channels=4, out_channels=8, sample_size=8, num_embeds_ada_norm=10, **HEADS)  # fmt: skip
add("pixart", "PixArtTransformer2DModel", lambda: {
    "hidden_states": x(2, 4, 8, 8), "timestep": time(), "encoder_hidden_states": x(2, 5, 14),
    "added_cond_kwargs": {"resolution": None, "aspect_ratio": None}},
    in_channels=4, out_channels=8, cross_attention_dim=48, sample_size=8, caption_channels=14,
    use_additional_conditions=False, **HEADS)  # fmt: skip
add("sd3", "SD3Transformer2DModel", lambda: {
    "hidden_states": x(2, 4, 8, 8), "timestep": time(), "encoder_hidden_states": x(2, 5, 28),
    "pooled_projections": x(2, 14)},
    sample_size=8, in_channels=4, joint_attention_dim=28, caption_projection_dim=48,
    pooled_projection_dim=14, out_channels=6, pos_embed_max_size=9, qk_norm="rms_norm",
    dual_attention_layers=(0,), **HEADS)  # fmt: skip


def tokens(channels: int, words: int, pooled: int | None = None) -> Inputs:
    """Sixteen patches and five words with their positions."""

    def inputs() -> dict[str, Any]:
        given = {
            "hidden_states": x(2, 16, channels), "encoder_hidden_states": x(2, 5, words),
            "timestep": torch.rand(2), "img_ids": torch.rand(16, 3).round(decimals=1),
            "txt_ids": torch.zeros(5, 3),
        }  # fmt: skip
        return given if pooled is None else given | {"pooled_projections": x(2, pooled)}

    return inputs


FLUX = {
    "in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
    "num_attention_heads": 3, "joint_attention_dim": 28, "axes_dims_rope": (4, 4, 8),
}  # fmt: skip
add("flux", "FluxTransformer2DModel", tokens(4, 28, 14), pooled_projection_dim=14, **FLUX)
add("chroma", "ChromaTransformer2DModel", tokens(4, 28), approximator_num_channels=8,
    approximator_hidden_dim=20, approximator_layers=1, **FLUX)  # fmt: skip
add("cogvideox", "CogVideoXTransformer3DModel", lambda: {
    "hidden_states": x(2, 2, 4, 8, 8), "encoder_hidden_states": x(2, 5, 14), "timestep": time()},
    in_channels=4, out_channels=6, time_embed_dim=10, text_embed_dim=14, sample_width=8,
    sample_height=8, sample_frames=5, max_text_seq_length=5,
    **HEADS | {"attention_head_dim": 16})  # fmt: skip
add("cogview3", "CogView3PlusTransformer2DModel", lambda: {
    "hidden_states": x(2, 4, 8, 8), "encoder_hidden_states": x(2, 5, 14), "timestep": time(),
    **{k: torch.tensor([[16, 16]] * 2) for k in ("original_size", "target_size")},
    "crop_coords": torch.tensor([[0, 2]] * 2)},
    in_channels=4, out_channels=6, text_embed_dim=14, time_embed_dim=10, condition_dim=6,
    pos_embed_max_size=8, sample_size=8, **HEADS)  # fmt: skip
add("sana", "SanaTransformer2DModel", lambda: {
    "hidden_states": x(2, 4, 8, 8), "encoder_hidden_states": x(2, 5, 14), "timestep": time()},
    in_channels=4, out_channels=6, num_cross_attention_heads=6, cross_attention_head_dim=8,
    cross_attention_dim=48, caption_channels=14, sample_size=8, **HEADS)  # fmt: skip
add("hunyuan-dit", "HunyuanDiT2DModel", lambda: {
    "hidden_states": x(2, 4, 8, 8), "timestep": time().float(),
    "encoder_hidden_states": x(2, 5, 14), "text_embedding_mask": torch.ones(2, 5),
    "encoder_hidden_states_t5": x(2, 6, 24),
    "text_embedding_mask_t5": torch.ones(2, 6), "image_meta_size": x(2, 6),
    "style": torch.tensor([0, 0]), "image_rotary_emb": [x(16, 12), x(16, 12)]},
    in_channels=4, patch_size=2, sample_size=8, hidden_size=48, cross_attention_dim=14,
    cross_attention_dim_t5=24, pooled_projection_dim=22, text_len=5, text_len_t5=6,
    **HEADS)  # fmt: skip
add("hunyuan-video", "HunyuanVideoTransformer3DModel", lambda: {
    "hidden_states": x(2, 4, 2, 8, 8), "timestep": time(), "encoder_hidden_states": x(2, 5, 14),
    "encoder_attention_mask": torch.ones(2, 5), "pooled_projections": x(2, 18),
    "guidance": torch.tensor([6.0, 5.0])},
    in_channels=4, out_channels=6, num_attention_heads=3, attention_head_dim=16, num_layers=1,
    num_single_layers=1, num_refiner_layers=1, text_embed_dim=14, pooled_projection_dim=18,
    rope_axes_dim=(4, 4, 8))  # fmt: skip
add("wan", "WanTransformer3DModel", lambda: {
    "hidden_states": x(2, 4, 2, 8, 8), "timestep": time(), "encoder_hidden_states": x(2, 5, 14)},
    in_channels=4, out_channels=6, text_dim=14, freq_dim=18, ffn_dim=68, rope_max_seq_len=32,
    **HEADS)  # fmt: skip
add("wan-image", "WanTransformer3DModel", lambda: {
    "hidden_states": x(2, 4, 2, 8, 8), "timestep": time(), "encoder_hidden_states": x(2, 5, 14),
    "encoder_hidden_states_image": x(2, 7, 22)},
    in_channels=4, out_channels=6, text_dim=14, freq_dim=18, ffn_dim=68, rope_max_seq_len=32,
    image_dim=22, added_kv_proj_dim=48, **HEADS)  # fmt: skip
add("ltx", "LTXVideoTransformer3DModel", lambda: {
    "hidden_states": x(2, 16, 4), "encoder_hidden_states": x(2, 5, 14), "timestep": time(),
    "encoder_attention_mask": torch.ones(2, 5), "num_frames": 1, "height": 4, "width": 4},
    in_channels=4, out_channels=6, cross_attention_dim=48, caption_channels=14,
    **HEADS)  # fmt: skip
add("allegro", "AllegroTransformer3DModel", lambda: {
    "hidden_states": x(2, 4, 2, 8, 8), "encoder_hidden_states": x(2, 5, 14), "timestep": time(),
    "attention_mask": torch.ones(2, 2, 8, 8), "encoder_attention_mask": torch.ones(2, 5)},
    in_channels=4, out_channels=6, cross_attention_dim=48, sample_height=8, sample_width=8,
    sample_frames=2, caption_channels=14, **HEADS)  # fmt: skip
add("latte", "LatteTransformer3DModel", lambda: {
    "hidden_states": x(2, 4, 3, 8, 8), "encoder_hidden_states": x(2, 5, 14), "timestep": time()},
    in_channels=4, out_channels=6, cross_attention_dim=48, sample_size=8, patch_size=2,
    norm_type="ada_norm_single", caption_channels=14, video_length=3, **HEADS)  # fmt: skip
add("lumina-next", "LuminaNextDiT2DModel", lambda: {
    "hidden_states": x(2, 4, 8, 8), "encoder_hidden_states": x(2, 5, 14), "timestep": time(),
    "encoder_mask": torch.ones(2, 5), "cross_attention_kwargs": {}, "image_rotary_emb": torch.polar(
        torch.ones(4, 4, 6), torch.rand(4, 4, 6))},
    sample_size=8, hidden_size=48, num_layers=2, num_attention_heads=4, num_kv_heads=2,
    multiple_of=28, cross_attention_dim=14)  # fmt: skip
add("lumina2", "Lumina2Transformer2DModel", lambda: {
    "hidden_states": x(2, 4, 8, 8), "encoder_hidden_states": x(2, 5, 14), "timestep": time(),
    "encoder_attention_mask": torch.ones(2, 5, dtype=torch.bool)},
    sample_size=8, in_channels=4, hidden_size=48, num_layers=1, num_refiner_layers=1,
    num_attention_heads=4, num_kv_heads=2, multiple_of=28, axes_dim_rope=(4, 4, 4),
    axes_lens=(20, 16, 16), cap_feat_dim=14)  # fmt: skip
add("mochi", "MochiTransformer3DModel", lambda: {
    "hidden_states": x(2, 4, 2, 8, 8), "encoder_hidden_states": x(2, 5, 16), "timestep": time(),
    "encoder_attention_mask": torch.ones(2, 5, dtype=torch.bool)},
    in_channels=4, out_channels=6, pooled_projection_dim=22, text_embed_dim=16, time_embed_dim=10,
    max_sequence_length=5, **HEADS)  # fmt: skip
add("auraflow", "AuraFlowTransformer2DModel", lambda: {
    "hidden_states": x(2, 4, 8, 8), "encoder_hidden_states": x(2, 5, 28),
    "timestep": torch.rand(2)},
    sample_size=8, in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1,
    attention_head_dim=12, num_attention_heads=4, joint_attention_dim=28,
    caption_projection_dim=48, out_channels=6, pos_embed_max_size=16)  # fmt: skip
add("stable-audio", "StableAudioDiTModel", lambda: {
    "hidden_states": x(2, 6, 16), "timestep": time(), "encoder_hidden_states": x(2, 5, 14),
    "global_hidden_states": x(2, 1, 18)},
    sample_size=16, in_channels=6, num_layers=2, attention_head_dim=12, num_attention_heads=4,
    num_key_value_attention_heads=2, out_channels=6, cross_attention_dim=24, time_proj_dim=10,
    global_states_input_dim=18, cross_attention_input_dim=14)  # fmt: skip
add("qwen-image", "QwenImageTransformer2DModel", lambda: {
    "hidden_states": x(2, 16, 16), "encoder_hidden_states": x(2, 5, 14),
    "encoder_hidden_states_mask": torch.ones(2, 5), "timestep": torch.rand(2),
    "img_shapes": [(1, 4, 4)] * 2},
    in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=3,
    joint_attention_dim=14, axes_dims_rope=(4, 6, 6))  # fmt: skip
add("kandinsky5", "Kandinsky5Transformer3DModel", lambda: {
    "hidden_states": x(1, 2, 8, 8, 4), "encoder_hidden_states": x(1, 5, 14),
    "timestep": torch.rand(1), "pooled_projections": x(1, 18),
    "visual_rope_pos": [torch.arange(2), torch.arange(4), torch.arange(4)],
    "text_rope_pos": torch.arange(5)},
    in_visual_dim=4, in_text_dim=14, in_text_dim2=18, time_dim=22, out_visual_dim=4, model_dim=48,
    ff_dim=68, num_text_blocks=1, num_visual_blocks=1, axes_dims=(4, 4, 4))  # fmt: skip
add("prx", "PRXTransformer2DModel", lambda: {
    "hidden_states": x(2, 4, 8, 8), "encoder_hidden_states": x(2, 5, 14),
    "timestep": torch.rand(2)},
    in_channels=4, context_in_dim=14, hidden_size=48, mlp_ratio=2.5, num_heads=3, depth=2,
    axes_dim=[8, 8])  # fmt: skip
add("omnigen", "OmniGenTransformer2DModel", lambda: {
    "hidden_states": x(2, 4, 8, 8), "timestep": torch.rand(2),
    "input_ids": torch.randint(30, (2, 5)), "input_img_latents": [], "input_image_sizes": {},
    "attention_mask": torch.ones(2, 22, 22), "position_ids": torch.arange(22).repeat(2, 1)},
    in_channels=4, hidden_size=48, num_attention_heads=4, num_key_value_heads=4,
    intermediate_size=68, num_layers=2, pad_token_id=0, vocab_size=33,
    max_position_embeddings=100, original_max_position_embeddings=50, pos_embed_max_size=9,
    time_step_dim=10,
    rope_scaling={"long_factor": [1.0] * 6, "short_factor": [1.0] * 6, "type": "su"})  # fmt: skip
add("prior", "PriorTransformer", lambda: {
    "hidden_states": x(2, 14), "timestep": time(), "proj_embedding": x(2, 14),
    "encoder_hidden_states": x(2, 7, 14)},
    embedding_dim=14, num_embeddings=7, additional_embeddings=4, **HEADS)  # fmt: skip
add("transformer-2d", "Transformer2DModel", lambda: {
    "hidden_states": x(2, 24, 8, 8), "encoder_hidden_states": x(2, 5, 14)},
    in_channels=24, cross_attention_dim=14, norm_num_groups=6, **HEADS)  # fmt: skip
add("transformer-temporal", "TransformerTemporalModel", lambda: {
    "hidden_states": x(6, 24, 4, 4), "num_frames": 3},
    in_channels=24, norm_num_groups=6, **HEADS)  # fmt: skip
add("film-decoder", "T5FilmDecoder", lambda: {
    "encodings_and_masks": [(x(2, 6, 48), torch.ones(2, 6))], "decoder_input_tokens": x(2, 9, 14),
    "decoder_noise_time": torch.rand(2)},
    input_dims=14, targets_length=9, d_model=48, num_layers=2, num_heads=4, d_kv=10,
    d_ff=68)  # fmt: skip

# --- Controls ------------------------------------------------------------------------------------

add("controlnet", "ControlNetModel", lambda: latents(2, 4, 8, 8)() | {
    "controlnet_cond": x(2, 3, 16, 16)}, conditioning_embedding_out_channels=(12, 20),
    **{k: v for k, v in CROSS.items() if k != "up_block_types"})  # fmt: skip
add("controlnet-flux", "FluxControlNetModel", lambda: tokens(4, 28, 14)() | {
    "controlnet_cond": x(2, 16, 4)}, pooled_projection_dim=14, **FLUX)  # fmt: skip
add("controlnet-sd3", "SD3ControlNetModel", lambda: {
    "hidden_states": x(2, 4, 8, 8), "controlnet_cond": x(2, 4, 8, 8), "timestep": time(),
    "encoder_hidden_states": x(2, 5, 28), "pooled_projections": x(2, 14)},
    sample_size=8, in_channels=4, joint_attention_dim=28, caption_projection_dim=48,
    pooled_projection_dim=14, out_channels=4, pos_embed_max_size=9, **HEADS)  # fmt: skip
add("controlnet-sparse", "SparseControlNetModel", lambda: latents(2, 4, 3, 8, 8)() | {
    "encoder_hidden_states": x(6, 5, 28),
    "controlnet_cond": x(2, 4, 3, 8, 8), "conditioning_mask": torch.ones(2, 1, 3, 8, 8)},
    conditioning_embedding_out_channels=(12, 20),
    **{k: v for k, v in CROSS.items() if k != "up_block_types"}
    | {"down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion")},
    motion_num_attention_heads=2)  # fmt: skip
add("controlnet-xs", "UNetControlNetXSModel", lambda: latents(2, 4, 8, 8)() | {
    "controlnet_cond": x(2, 3, 16, 16)},
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), block_out_channels=(24, 48),
    norm_num_groups=8, cross_attention_dim=28, num_attention_heads=4, sample_size=8,
    ctrl_conditioning_embedding_out_channels=(12, 20), ctrl_block_out_channels=(8, 12),
    ctrl_num_attention_heads=2, ctrl_max_norm_num_groups=4)  # fmt: skip
add("t2i-adapter", "T2IAdapter", lambda: {"x": x(2, 3, 32, 32)}, channels=[24, 40, 56],
    num_res_blocks=2, downscale_factor=4)  # fmt: skip
add("t2i-adapter-light", "T2IAdapter", lambda: {"x": x(2, 3, 32, 32)}, channels=[24, 40, 56],
    num_res_blocks=2, downscale_factor=4, adapter_type="light_adapter")  # fmt: skip
