"""The smallest variant of every module in timm, untrained, at the smallest input it takes.

``python -m zoo.timm_models`` prints the table anew. It takes minutes, so the result is kept here.
"""

import timm
import torch
from timm.models import is_model
from torch.utils._pytree import tree_leaves

from .registry import Example, register

SIDES = (32, 48, 64, 96, 126, 128, 160, 192, 224, 240, 256, 288, 299, 320, 384, 448, 512, 640, 1024)

# Module: variant, side of the input, whether the model is built for that side.
TABLE: dict[str, tuple[str, int, bool]] = {
    "beit": ("beit_base_patch16_224", 32, True),
    "byoanet": ("halonet_h1", 256, False),
    "byobnet": ("test_byobnet", 32, False),
    "cait": ("cait_xxs24_224", 32, True),
    "coat": ("coat_tiny", 32, True),
    "convit": ("convit_tiny", 32, True),
    "convmixer": ("convmixer_768_32", 32, False),
    "convnext": ("test_convnext", 32, False),
    "cpubone": ("cpubone_nano", 32, False),
    "crossvit": ("crossvit_tiny_240", 32, False),
    "csatv2": ("csatv2", 64, False),
    "cspnet": ("cs3darknet_focus_s", 32, False),
    "cspnext": ("cspnext_tiny", 32, False),
    "davit": ("davit_tiny", 32, False),
    "deepseek_vit": ("deepseek_vit_412m", 126, False),
    "deit": ("deit_tiny_patch16_224", 32, True),
    "densenet": ("densenet121", 32, False),
    "dla": ("dla46x_c", 32, False),
    "dpn": ("dpn48b", 32, False),
    "edgenext": ("edgenext_xx_small", 32, False),
    "efficientformer": ("efficientformer_l1", 224, False),
    "efficientformer_v2": ("efficientformerv2_s0", 32, True),
    "efficientnet": ("test_efficientnet", 32, False),
    "efficientvim": ("efficientvim_m1", 32, False),
    "efficientvit_mit": ("efficientvit_b0", 32, False),
    "efficientvit_msra": ("efficientvit_m0", 32, False),
    "eva": ("vit_tiny_patch16_dinov3_qkvb", 32, False),
    "fasternet": ("fasternet_t0", 32, False),
    "fastvit": ("fastvit_t8", 32, False),
    "focalnet": ("focalnet_tiny_srf", 32, False),
    "gcvit": ("gcvit_xxtiny", 32, True),
    "gemma4_vit": ("gemma4_vit_167m", 32, False),
    "ghostnet": ("ghostnet_050", 32, False),
    "hardcorenas": ("hardcorenas_b", 32, False),
    "hgnet": ("hgnetv2_b0", 32, False),
    "hiera": ("hiera_tiny_224", 32, True),
    "hieradet_sam2": ("sam2_hiera_tiny", 32, False),
    "hrnet": ("hrnet_w18_small", 32, False),
    "iformer": ("iformer_t", 32, False),
    "inception_next": ("inception_next_atto", 32, False),
    "inception_resnet_v2": ("inception_resnet_v2", 96, False),
    "inception_v3": ("inception_v3", 96, False),
    "inception_v4": ("inception_v4", 96, False),
    "lcnetv2": ("lcnetv2_small", 32, False),
    "levit": ("levit_128s", 32, True),
    "lowformer": ("lowformer_b0", 32, False),
    "mambaout": ("test_mambaout", 32, False),
    "maxxvit": ("test_coatnet", 32, True),
    "metaformer": ("poolformerv2_s12", 32, False),
    "mlp_mixer": ("gmlp_ti16_224", 32, True),
    "mobilenetv3": ("mobilenetv3_small_050", 32, False),
    "mobilenetv5": ("mobilenetv5_base", 32, False),
    "mobilevit": ("mobilevit_xxs", 32, False),
    "mvitv2": ("mvitv2_tiny", 32, False),
    "naflexvit": ("naflexvit_base_patch16_parfac_gap", 32, False),
    "nasnet": ("nasnetalarge", 32, False),
    "nest": ("nest_tiny", 32, True),
    "nextvit": ("nextvit_small", 32, False),
    "nfnet": ("test_nfnet", 32, False),
    "pit": ("pit_ti_224", 32, True),
    "pnasnet": ("pnasnet5large", 32, False),
    "pvt_v2": ("pvt_v2_b0", 32, False),
    "qwen3_vit": ("qwen3_vit_88m", 32, False),
    "rdnet": ("rdnet_tiny", 32, False),
    "regnet": ("regnetx_002", 32, False),
    "repghost": ("repghostnet_050", 32, False),
    "repvit": ("repvit_m1", 32, False),
    "res2net": ("res2next50", 32, False),
    "resnest": ("resnest14d", 32, False),
    "resnet": ("test_resnet", 32, False),
    "resnetv2": ("resnetv2_18", 32, False),
    "rexnet": ("rexnet_100", 32, False),
    "selecsls": ("selecsls42", 32, False),
    "senet": ("legacy_seresnet18", 32, False),
    "sequencer": ("sequencer2d_s", 32, False),
    "shvit": ("shvit_s1", 32, False),
    "sknet": ("skresnet18", 32, False),
    "starnet": ("starnet_s050", 32, False),
    "swiftformer": ("swiftformer_xs", 32, False),
    "swin_transformer": ("swin_tiny_patch4_window7_224", 32, True),
    "swin_transformer_v2": ("swinv2_tiny_window8_256", 32, True),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", 32, True),
    "tiny_vit": ("tiny_vit_5m_224", 32, False),
    "tnt": ("tnt_s_legacy_patch16_224", 32, True),
    "tresnet": ("tresnet_m", 32, False),
    "twins": ("twins_svt_small", 32, False),
    "vgg": ("vgg11", 32, False),
    "visformer": ("visformer_tiny", 32, True),
    "vision_transformer": ("test_vit", 32, False),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 32, True),
    "vision_transformer_relpos": ("test_vit_relpos", 32, True),
    "vision_transformer_sam": ("samvit_base_patch16_224", 32, False),
    "vitamin": ("vitamin_small_224", 32, True),
    "volo": ("volo_d1_224", 32, True),
    "vovnet": ("ese_vovnet19b_slim_dw", 32, False),
    "xception": ("legacy_xception", 32, False),
    "xception_aligned": ("xception41p", 32, False),
    "xcit": ("xcit_nano_12_p8_224", 32, False),
}


def smallest_variant(module: str) -> str:
    """The one with the fewest parameters, counted without allocating them."""

    def size(name: str) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in timm.create_model(name).parameters())

    return min(timm.list_models(module=module), key=size)


def create(name: str, side: int, sized: bool) -> Example:
    options = {"img_size": side} if sized else {}
    model = timm.create_model(name, pretrained=False, **options)
    return Example(model.eval(), (torch.randn(2, model.default_cfg["input_size"][0], side, side),))


def runs(example: Example) -> bool:
    try:
        with torch.no_grad():
            out = tree_leaves(example.model(*example.args))
    except Exception:  # whatever a model raises at a size it does not take
        return False
    return all(leaf.numel() > 0 and bool(leaf.isfinite().all()) for leaf in out)


def smallest_side(name: str) -> tuple[int, bool] | None:
    """The first side that runs, with the model as it comes or else built for that side."""
    example = create(name, 224, False)
    model, channels = example.model, example.args[0].size(1)
    sides = (s for s in SIDES if runs(Example(model, (torch.randn(2, channels, s, s),))))
    plain = next(sides, None)
    for side in SIDES:
        if side == plain or side > 128:
            break
        try:
            if runs(create(name, side, True)):
                return side, True
        except Exception:  # no such option, or no such size
            continue
    return None if plain is None else (plain, False)


def add(name: str, side: int, sized: bool) -> None:
    @register(f"timm/{name}", "timm")
    def build() -> Example:
        return create(name, side, sized)


for _name, _side, _sized in TABLE.values():
    if is_model(_name):
        add(_name, _side, _sized)


if __name__ == "__main__":
    for _module in timm.list_modules():
        _name = smallest_variant(_module)
        print(f'    "{_module}": {(_name, *(smallest_side(_name) or ()))},', flush=True)
