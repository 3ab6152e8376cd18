"""Networks of MONAI for medical images, in two and three dimensions, untrained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.networks import nets
from torch import Tensor

from .registry import Example, register

Inputs = Callable[[], tuple[Tensor, ...]]


def noise(*shapes: tuple[int, ...]) -> Inputs:
    return lambda: tuple(torch.randn(shape) for shape in shapes)


def add(name: str, class_name: str, args: tuple, kwargs: dict, inputs: Inputs) -> None:
    if not hasattr(nets, class_name):
        return

    @register(f"monai/{name}", "monai")
    def build() -> Example:
        return Example(getattr(nets, class_name)(*args, **kwargs), inputs())


LEVELS = {"num_res_blocks": (1, 1), "channels": (24, 40), "norm_num_groups": 8}
FLAT, SOLID = (2, 2, 32, 32), (2, 2, 16, 16, 16)

add("unet", "UNet", (2, 2, 3, (8, 12, 20), (2, 2)), {"num_res_units": 1}, noise(FLAT))
add("unet-3d", "UNet", (3, 2, 3, (8, 12, 20), (2, 2)), {
    "num_res_units": 2, "norm": "batch", "act": "leakyrelu"}, noise(SOLID))  # fmt: skip
add("attention-unet", "AttentionUnet", (2, 2, 3, (8, 12, 20), (2, 2)), {}, noise(FLAT))
add("basic-unet", "BasicUNet", (2, 2, 3, (8, 10, 12, 16, 20, 14)), {}, noise(FLAT))
add("basic-unet++", "BasicUNetPlusPlus", (2, 2, 3, (8, 10, 12, 16, 20, 14)), {
    "deep_supervision": True}, noise(FLAT))  # fmt: skip
add("dynunet", "DynUNet", (2, 2, 3, [3, 3, 3], [1, 2, 2], [2, 2]), {
    "filters": [12, 20, 28], "deep_supervision": True, "res_block": True}, noise(FLAT))  # fmt: skip
add("flexible-unet", "FlexibleUNet", (3, 5, "efficientnet-b0"), {
    "decoder_channels": (48, 40, 28, 20, 12)}, noise((2, 3, 64, 64)))  # fmt: skip
add("vnet", "VNet", (2, 1, 3), {"dropout_dim": 2}, noise((2, 1, 32, 32)))
add("highresnet", "HighResNet", (3, 2, 3), {"layer_params": (
    {"name": "conv_0", "n_features": 8, "kernel_size": 3},
    {"name": "res_1", "n_features": 8, "kernels": (3, 3), "repeat": 2},
    {"name": "res_2", "n_features": 20, "kernels": (3, 3), "repeat": 1},
    {"name": "conv_1", "n_features": 28, "kernel_size": 1},
    {"name": "conv_2", "kernel_size": 1},
)}, noise((2, 2, 8, 8, 8)))  # fmt: skip
add("segresnet", "SegResNet", (3, 8, 2, 3), {"blocks_down": (1, 2, 1), "blocks_up": (1, 1)},
    noise(SOLID))  # fmt: skip
add("segresnet-ds", "SegResNetDS", (2, 12, 2, 3), {
    "blocks_down": (1, 2, 1), "dsdepth": 2}, noise(FLAT))  # fmt: skip
add("segresnet-vae", "SegResNetVAE", ((32, 32),), {
    "spatial_dims": 2, "in_channels": 2, "out_channels": 3, "vae_nz": 20,
    "blocks_down": (1, 1, 1), "blocks_up": (1, 1)}, noise(FLAT))  # fmt: skip
add("mednext", "MedNeXt", (2, 12, 2, 3), {
    "kernel_size": 3, "blocks_down": (1, 1), "blocks_up": (1, 1), "blocks_bottleneck": 1,
    "use_residual_connection": True, "global_resp_norm": True}, noise(FLAT))  # fmt: skip
add("unetr", "UNETR", (2, 3, (32, 32)), {
    "feature_size": 12, "hidden_size": 48, "mlp_dim": 64, "num_heads": 6, "spatial_dims": 2},
    noise(FLAT))  # fmt: skip
add("swin-unetr", "SwinUNETR", (2, 3), {
    "feature_size": 12, "spatial_dims": 2, "depths": (1, 1, 1, 1), "num_heads": (2, 2, 3, 4)},
    noise((2, 2, 64, 64)))  # fmt: skip
add("swin-unetr-v2", "SwinUNETR", (2, 3), {
    "feature_size": 12, "spatial_dims": 2, "depths": (1, 1, 1, 1), "num_heads": (2, 2, 3, 4),
    "use_v2": True, "downsample": "mergingv2"}, noise((2, 2, 64, 64)))  # fmt: skip
add("vit", "ViT", (2, (32, 32), (8, 8)), {
    "hidden_size": 48, "mlp_dim": 64, "num_layers": 2, "num_heads": 6, "spatial_dims": 2,
    "classification": True, "num_classes": 5}, noise(FLAT))  # fmt: skip
add("vit-autoencoder", "ViTAutoEnc", (2, (32, 32), (16, 16)), {
    "out_channels": 3, "deconv_chns": 20, "hidden_size": 48, "mlp_dim": 64, "num_layers": 2,
    "num_heads": 6, "spatial_dims": 2, "proj_type": "perceptron"}, noise(FLAT))  # fmt: skip
add("densenet-3d", "DenseNet", (3, 2, 5), {
    "init_features": 12, "growth_rate": 8, "block_config": (2, 3)}, noise(SOLID))  # fmt: skip
add("senet", "SENet", (2, 3, "se_bottleneck", (1, 1, 1, 1), 1, 8), {
    "num_classes": 5, "inplanes": 24}, noise((2, 3, 32, 32)))  # fmt: skip
add("autoencoder-kl", "AutoencoderKL", (2, 2, 3), {
    **LEVELS, "attention_levels": (False, True), "latent_channels": 5}, noise(FLAT))  # fmt: skip
add("vq-vae", "VQVAE", (2, 2, 3), {
    "channels": (12, 20), "num_res_layers": 1, "num_res_channels": (10, 14),
    "downsample_parameters": ((2, 4, 1, 1),) * 2, "upsample_parameters": ((2, 4, 1, 1, 0),) * 2,
    "num_embeddings": 26, "embedding_dim": 18}, noise(FLAT))  # fmt: skip
add("diffusion-unet", "DiffusionModelUNet", (2, 2, 3), {
    **LEVELS, "attention_levels": (False, True), "num_head_channels": 10, "with_conditioning": True,
    "cross_attention_dim": 14},
    lambda: (torch.randn(2, 2, 16, 16), torch.tensor([3, 7]), torch.randn(2, 5, 14)))  # fmt: skip
add("controlnet", "ControlNet", (2, 2), {
    **LEVELS, "attention_levels": (False, True), "num_head_channels": 10,
    "conditioning_embedding_in_channels": 3, "conditioning_embedding_num_channels": (12, 20)},
    lambda: (torch.randn(2, 2, 16, 16), torch.tensor([3, 7]), torch.randn(2, 3, 32, 32)),
)  # fmt: skip
add("decoder-only-transformer", "DecoderOnlyTransformer", (29, 17, 48, 2, 6), {},
    lambda: (torch.randint(29, (3, 11)),))  # fmt: skip
add("localnet", "LocalNet", (2, 2, 12, (0, 1, 2)), {"out_channels": 3}, noise(FLAT))
add("globalnet", "GlobalNet", ((32, 32), 2, 2, 12, 2), {}, noise(FLAT))
