"""Audio, multimodal and time-series models of transformers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from ._hf import BATCH, TARGET_LENGTH, TEXT, VISION, VOCAB, Inputs, add, pixels, tokens

Specs = list[tuple[str, str, dict[str, Any], Inputs]]


def waveform(model: PreTrainedModel) -> dict[str, Any]:
    """Raw audio."""
    return {"input_values": torch.randn(BATCH, 1300)}


def waveform_and_tokens(model: PreTrainedModel) -> dict[str, Any]:
    """Raw audio with target text."""
    return waveform(model) | {"decoder_input_ids": tokens(TARGET_LENGTH)}


def features(key: str, *shape: int, target: bool = False) -> Inputs:
    """Random features of one shape, with target text for encoder-decoders."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        given: dict[str, Any] = {key: torch.randn(shape)}
        if target:
            given["decoder_input_ids"] = tokens(TARGET_LENGTH)
        return given

    return inputs


def vocoder_inputs(model: PreTrainedModel) -> dict[str, Any]:
    """A spectrogram and the noise that is shaped by it."""
    return {"input_features": torch.randn(2, 23, 26), "noise_sequence": torch.randn(2, 23, 14)}


_WAVE = {
    "conv_dim": [20, 24, 28], "conv_stride": [5, 4, 3], "conv_kernel": [10, 3, 2],
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4, "classifier_proj_size": 44,
    "layerdrop": 0.0, "intermediate_size": 108, "mask_time_prob": 0.0, "num_attention_heads": 6,
}
_SPEECH = {
    "d_model": 96, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 6,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 112, "decoder_ffn_dim": 104,
    "max_target_positions": 40,
}

AUDIO: Specs = [
    ("wav2vec2", "Wav2Vec2ForSequenceClassification", _WAVE, waveform),
    ("wav2vec2-ctc", "Wav2Vec2ForCTC", _WAVE | {
        "do_stable_layer_norm": True, "feat_extract_norm": "layer", "add_adapter": True,
        "num_adapter_layers": 1}, waveform),
    ("hubert", "HubertForSequenceClassification", _WAVE, waveform),
    ("wavlm", "WavLMForSequenceClassification", _WAVE | {
        "num_buckets": 16, "max_bucket_distance": 30}, waveform),
    ("data2vec-audio", "Data2VecAudioForSequenceClassification", _WAVE | {
        "conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 2}, waveform),
    ("sew", "SEWForSequenceClassification", _WAVE, waveform),
    ("sew-d", "SEWDForSequenceClassification", _WAVE | {"position_buckets": 14}, waveform),
    ("unispeech", "UniSpeechForSequenceClassification", _WAVE, waveform),
    ("unispeech-sat", "UniSpeechSatForSequenceClassification", _WAVE, waveform),
    ("wav2vec2-conformer", "Wav2Vec2ConformerForSequenceClassification", _WAVE | {
        "conv_depthwise_kernel_size": 7, "max_source_positions": 60}, waveform),
    ("wav2vec2-bert", "Wav2Vec2BertForSequenceClassification", {
        "feature_projection_input_dim": 26, "conv_depthwise_kernel_size": 7,
        "classifier_proj_size": 44, "layerdrop": 0.0, "mask_time_prob": 0.0},
        features("input_features", BATCH, 23, 26)),
    ("whisper", "WhisperForConditionalGeneration", _SPEECH | {
        "num_mel_bins": 26, "max_source_positions": 30, "decoder_start_token_id": 1},
        features("input_features", BATCH, 26, 60, target=True)),
    ("whisper-classifier", "WhisperForAudioClassification", _SPEECH | {
        "num_mel_bins": 26, "max_source_positions": 30, "classifier_proj_size": 44,
        "decoder_start_token_id": 1}, features("input_features", BATCH, 26, 60)),
    ("speech-to-text", "Speech2TextForConditionalGeneration", _SPEECH | {
        "input_feat_per_channel": 26, "conv_channels": 60, "max_source_positions": 50},
        features("input_features", BATCH, 43, 26, target=True)),
    ("moonshine", "MoonshineForConditionalGeneration", {
        "encoder_num_hidden_layers": 2, "decoder_num_hidden_layers": 2,
        "encoder_num_attention_heads": 6, "decoder_num_attention_heads": 4}, waveform_and_tokens),
    ("speecht5", "SpeechT5ForSpeechToText", _WAVE | {
        "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 6,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 112, "decoder_ffn_dim": 104,
        "encoder_max_relative_position": 20, "max_text_positions": 40}, waveform_and_tokens),
    ("ast", "ASTForAudioClassification", {
        "patch_size": 8, "frequency_stride": 6, "time_stride": 5, "max_length": 43,
        "num_mel_bins": 26}, features("input_values", BATCH, 43, 26)),
    ("univnet", "UnivNetModel", {
        "model_in_channels": 14, "model_hidden_channels": 10, "num_mel_bins": 26,
        "resblock_kernel_sizes": [3, 3], "resblock_stride_sizes": [4, 2],
        "resblock_dilation_sizes": [[1, 3], [1, 3]], "kernel_predictor_hidden_channels": 14,
        "kernel_predictor_num_blocks": 2},
        vocoder_inputs),
    ("hifigan", "SpeechT5HifiGan", {
        "model_in_dim": 26, "upsample_initial_channel": 48, "upsample_rates": [4, 2],
        "upsample_kernel_sizes": [8, 4], "resblock_kernel_sizes": [3, 5],
        "resblock_dilation_sizes": [[1, 3], [1, 3]]}, features("spectrogram", 2, 23, 26)),
]


def pair(model: PreTrainedModel) -> dict[str, Any]:
    """Text and images."""
    return {"input_ids": tokens(14), "pixel_values": pixels(32)}


def ended_pair(model: PreTrainedModel) -> dict[str, Any]:
    """Text that closes with its end token, where these towers pool, and images."""
    inputs = pair(model)
    inputs["input_ids"][:, -1] = model.config.text_config.eos_token_id
    return inputs


def detection_pair(model: PreTrainedModel) -> dict[str, Any]:
    """Two text queries for each image."""
    return {"input_ids": tokens(14, batch=2 * BATCH), "pixel_values": pixels(32)}


def prompted(count: int, image_token: int = VOCAB - 1) -> Inputs:
    """Text that opens with placeholders for the image."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        ids = tokens(count + 9, vocab=image_token)
        ids[:, :count] = image_token
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids),
                "pixel_values": pixels(32)}

    return inputs


def tiled(model: PreTrainedModel) -> dict[str, Any]:
    """Text that opens with placeholders for an image given as one tile."""
    inputs = prompted(4)(model)
    return inputs | {"pixel_values": inputs["pixel_values"].unsqueeze(1)}


def regions(model: PreTrainedModel) -> dict[str, Any]:
    """Text with features and boxes of image regions."""
    return {
        "input_ids": tokens(), "visual_feats": torch.randn(BATCH, 8, 44),
        "visual_pos": torch.rand(BATCH, 8, 4),
    }


def visual_embeddings(model: PreTrainedModel) -> dict[str, Any]:
    """Text with features of image regions."""
    return {
        "input_ids": tokens(), "attention_mask": torch.ones(BATCH, 17, dtype=torch.long),
        "visual_embeds": torch.randn(BATCH, 8, 44),
        "visual_attention_mask": torch.ones(BATCH, 8, dtype=torch.long),
        "visual_token_type_ids": torch.ones(BATCH, 8, dtype=torch.long),
    }


def document(model: PreTrainedModel) -> dict[str, Any]:
    """Text with boxes on a page and its image."""
    corner = torch.randint(0, 25, (BATCH, 14, 2))
    return pair(model) | {"bbox": torch.cat([corner, corner + 20], dim=-1)}


_TOWERS = {"text_config": {"eos_token_id": 3}, "vision_config": {}, "projection_dim": 52}
_EFFICIENT = {
    "image_size": 32, "width_coefficient": 0.35, "depth_coefficient": 0.4, "hidden_dim": 112,
}

MULTIMODAL: Specs = [
    ("clip", "CLIPModel", _TOWERS, ended_pair),
    ("clip-classifier", "CLIPForImageClassification", _TOWERS, features(
        "pixel_values", BATCH, 3, 32, 32)),
    ("metaclip-2", "MetaClip2Model", _TOWERS, ended_pair),
    ("siglip", "SiglipModel", {"text_config": {"projection_size": 72}, "vision_config": {}}, pair),
    ("blip", "BlipForImageTextRetrieval", {
        "text_config": {"encoder_hidden_size": 72}, "vision_config": {}, "projection_dim": 52,
        "image_text_hidden_size": 60}, pair),
    ("align", "AlignModel", {
        "text_config": {}, "vision_config": _EFFICIENT, "projection_dim": 112}, pair),
    ("altclip", "AltCLIPModel", {
        "text_config": {"project_dim": 60}, "vision_config": {}, "projection_dim": 52}, pair),
    ("chinese-clip", "ChineseCLIPModel", {
        "text_config": {}, "vision_config": {}, "projection_dim": 52}, pair),
    ("clipseg", "CLIPSegForImageSegmentation", _TOWERS | {
        "vision_config": {"num_hidden_layers": 3}, "extract_layers": [0, 1, 2], "reduce_dim": 24,
        "decoder_num_attention_heads": 3, "decoder_intermediate_size": 88}, ended_pair),
    ("git", "GitForCausalLM", {"vision_config": {}}, pair),
    ("vilt", "ViltForQuestionAnswering", {
        "hidden_size": 96, "num_attention_heads": 6, "image_size": 32, "patch_size": 8}, pair),
    ("flava", "FlavaModel", {
        "image_config": {}, "text_config": {"hidden_size": 72, "num_attention_heads": 4},
        "multimodal_config": {}, "image_codebook_config": {}, "hidden_size": 72,
        "projection_dim": 52}, pair),
    ("owlvit", "OwlViTForObjectDetection", _TOWERS | {"projection_dim": 96}, detection_pair),
    ("owlv2", "Owlv2ForObjectDetection", _TOWERS | {"projection_dim": 96}, detection_pair),
    ("groupvit", "GroupViTModel", {
        "text_config": {"eos_token_id": 3}, "projection_dim": 52,
        "projection_intermediate_dim": 88,
        "vision_config": {
            "depths": [1, 1, 1], "num_group_tokens": [10, 6, 0], "num_output_groups": [10, 6, 6]}},
        ended_pair),
    ("lxmert", "LxmertForQuestionAnswering", {
        "l_layers": 1, "x_layers": 2, "r_layers": 1, "visual_feat_dim": 44, "num_qa_labels": 9,
        "num_object_labels": 13, "num_attr_labels": 15}, regions),
    ("visual-bert", "VisualBertForQuestionAnswering", {
        "visual_embedding_dim": 44}, visual_embeddings),
    ("layoutlmv3", "LayoutLMv3ForSequenceClassification", {
        "input_size": 32, "patch_size": 8, "max_2d_position_embeddings": 60,
        "coordinate_size": 14, "shape_size": 20, "rel_pos_bins": 10, "rel_2d_pos_bins": 12},
        document),
    ("bridgetower", "BridgeTowerForImageAndTextRetrieval", {
        "hidden_size": 96, "num_attention_heads": 6, "num_hidden_layers": 2,
        "text_config": {"num_hidden_layers": 3},
        "vision_config": {"num_hidden_layers": 3}}, pair),
    ("llava", "LlavaForConditionalGeneration", {
        "text_config": {"model_type": "llama"},
        "vision_config": {"model_type": "clip_vision_model", "projection_dim": 52},
        "image_token_id": VOCAB - 1, "image_seq_length": 16}, prompted(16)),
    ("paligemma", "PaliGemmaForConditionalGeneration", {
        "text_config": {"model_type": "gemma"},
        "vision_config": {"model_type": "siglip_vision_model", "vision_use_head": False},
        "image_token_id": VOCAB - 1, "projection_dim": 96}, prompted(16)),
    ("idefics3", "Idefics3ForConditionalGeneration", {
        "text_config": {"model_type": "llama"}, "vision_config": {}, "scale_factor": 2,
        "image_token_id": VOCAB - 1}, tiled),
    ("internvl", "InternVLForConditionalGeneration", {
        "text_config": {"model_type": "qwen2"},
        "vision_config": {"image_size": [32, 32], "patch_size": [8, 8]},
        "image_token_id": VOCAB - 1, "image_seq_length": 4}, prompted(4)),
    ("blip-2", "Blip2ForConditionalGeneration", {
        "vision_config": {}, "num_query_tokens": 6,
        "qformer_config": {
            "vocab_size": 97, "hidden_size": 60, "intermediate_size": 88,
            "encoder_hidden_size": 72},
        "text_config": {"model_type": "opt", "ffn_dim": 112, "word_embed_proj_dim": 96},
        "image_token_index": VOCAB - 1}, prompted(6)),
]


def series(model: PreTrainedModel) -> dict[str, Any]:
    """A past window of several channels."""
    return {"past_values": torch.randn(BATCH, 32, 3)}


def calendar_series(model: PreTrainedModel) -> dict[str, Any]:
    """A past and a future window with time features, the past longer by the largest lag."""
    past = 24 + max(model.config.lags_sequence)
    return {
        "past_values": torch.randn(BATCH, past), "past_time_features": torch.randn(BATCH, past, 2),
        "past_observed_mask": torch.ones(BATCH, past), "future_values": torch.randn(BATCH, 9),
        "future_time_features": torch.randn(BATCH, 9, 2),
    }


_CALENDAR = {
    "prediction_length": 9, "context_length": 24, "lags_sequence": [1, 2, 3, 5],
    "num_time_features": 2, "d_model": 60, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 6, "decoder_attention_heads": 4, "encoder_ffn_dim": 112,
    "decoder_ffn_dim": 104, "init_std": 0.1,
}
_PATCH = {
    "num_input_channels": 3, "context_length": 32, "patch_length": 8, "patch_stride": 4,
    "prediction_length": 9, "num_targets": 7, "init_std": 0.2,
}

TIMESERIES: Specs = [
    ("patchtst", "PatchTSTForPrediction", _PATCH | {
        "d_model": 60, "ffn_dim": 112, "num_attention_heads": 6, "loss": "mse"}, series),
    ("patchtst-classifier", "PatchTSTForClassification", _PATCH | {
        "d_model": 60, "ffn_dim": 112, "num_attention_heads": 6, "use_cls_token": True}, series),
    ("patchtsmixer", "PatchTSMixerForPrediction", _PATCH | {
        "d_model": 20, "num_layers": 2, "self_attn": True, "self_attn_heads": 4}, series),
    ("patchtsmixer-mix", "PatchTSMixerForTimeSeriesClassification", _PATCH | {
        "d_model": 20, "num_layers": 2, "mode": "mix_channel"}, series),
    ("time-series-transformer", "TimeSeriesTransformerForPrediction", _CALENDAR, calendar_series),
    ("informer", "InformerForPrediction", _CALENDAR, calendar_series),
    ("timesfm", "TimesFmModelForPrediction", {
        "patch_length": 8, "context_length": 32, "horizon_length": 9, "hidden_size": 60,
        "intermediate_size": 60, "head_dim": 14, "num_attention_heads": 4},
        lambda model: {
            "past_values": [torch.randn(32) for _ in range(3)], "freq": [0, 1, 2]}),
    ("timesfm2-5", "TimesFm2_5ModelForPrediction", {
        "patch_length": 8, "context_length": 32, "horizon_length": 9, "hidden_size": 60,
        "intermediate_size": 60, "head_dim": 14, "num_attention_heads": 4,
        "num_key_value_heads": 4, "output_quantile_len": 12},
        lambda model: {"past_values": [torch.randn(32) for _ in range(3)]}),
    ("decision-transformer", "DecisionTransformerModel", {
        "state_dim": 14, "act_dim": 5, "hidden_size": 72, "max_ep_len": 40, "n_layer": 2,
        "n_head": 4, "n_inner": 108, "n_positions": 60},
        lambda model: {
            "states": torch.randn(3, 9, 14), "actions": torch.randn(3, 9, 5),
            "rewards": torch.randn(3, 9, 1), "returns_to_go": torch.randn(3, 9, 1),
            "timesteps": torch.arange(9).repeat(3, 1), "attention_mask": torch.ones(3, 9)}),
    ("autoformer", "AutoformerForPrediction", _CALENDAR | {
        "label_length": 6, "moving_average": 5}, calendar_series),
]

for _family, _specs, _base in (
    ("transformers-audio", AUDIO, TEXT),
    ("transformers-multimodal", MULTIMODAL, TEXT),
    ("transformers-timeseries", TIMESERIES, VISION),
):
    for _name, _class, _own, _inputs in _specs:
        add(_family, _name, _class, _base, _own, _inputs)
