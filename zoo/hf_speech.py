"""Audio codecs, speech generators and language models that hear, of transformers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from ._hf import BATCH, TARGET_LENGTH, TEXT, VOCAB, Inputs, add, tokens
from .hf_other import _WAVE, features, waveform
from .hf_text import _T5

Specs = list[tuple[str, str, dict[str, Any], Inputs]]

AUDIO_TOKEN = VOCAB - 1


def sound(length: int, key: str = "input_values") -> Inputs:
    """One channel of raw audio."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        return {key: torch.randn(2, 1, length)}

    return inputs


def heard(count: int, *shape: int, masked: str = "") -> Inputs:
    """Text that opens with placeholders for what is heard."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        ids = tokens(count + 9, vocab=VOCAB - 6, batch=shape[0])
        ids[:, :count] = AUDIO_TOKEN
        given = {
            "input_ids": ids, "attention_mask": torch.ones_like(ids),
            "input_features": torch.randn(shape),
        }
        if masked:
            given[masked] = torch.ones(shape[0], shape[-1], dtype=torch.long)
        return given

    return inputs


def codes(channels: int, vocab: int, key: str = "input_ids", length: int = 13) -> Inputs:
    """Frames of one code for each codebook."""

    def inputs(model: PreTrainedModel) -> dict[str, Any]:
        return {key: torch.randint(3, vocab, (BATCH, length, channels))}

    return inputs


def flat_codes(model: PreTrainedModel) -> dict[str, Any]:
    """The same with all codebooks of all samples in one row."""
    return {"input_ids": torch.randint(3, 61, (BATCH * 3, 13))}


def captioned(model: PreTrainedModel) -> dict[str, Any]:
    """A description and the codes of the music."""
    return {
        "input_ids": tokens(), "attention_mask": torch.ones(BATCH, 17, dtype=torch.long),
        "decoder_input_ids": torch.randint(3, 61, (BATCH * 3, 13)),
    }


def spoken(model: PreTrainedModel) -> dict[str, Any]:
    """Characters to be read aloud."""
    return {"input_ids": torch.randint(3, 37, (2, 17))}


def translated(model: PreTrainedModel) -> dict[str, Any]:
    """Filter banks and the text of the translation."""
    return {
        "input_features": torch.randn(2, 40, 26),
        "decoder_input_ids": tokens(TARGET_LENGTH, batch=2),
    }


_LLAMA = {"model_type": "llama"}
_QWEN2 = {"model_type": "qwen2"}
_CODEC = {
    "num_filters": 12, "upsampling_ratios": [4, 2], "codebook_size": 32, "hidden_size": 28,
    "num_lstm_layers": 1,
}
_WHISPER = {
    "d_model": 72, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 108,
    "num_mel_bins": 26, "max_source_positions": 30,
}
_MIMI = {
    "hidden_size": 48, "num_filters": 12, "upsampling_ratios": [4, 2], "codebook_size": 32,
    "codebook_dim": 20, "vector_quantization_hidden_dimension": 20, "num_quantizers": 4,
    "num_hidden_layers": 2, "intermediate_size": 88, "num_attention_heads": 4,
    "num_key_value_heads": 2, "upsample_groups": 48, "sliding_window": 20,
}
_MUSIC = {
    "vocab_size": 64, "hidden_size": 96, "num_hidden_layers": 2, "ffn_dim": 112,
    "num_attention_heads": 6, "num_codebooks": 3, "pad_token_id": 64, "bos_token_id": 64,
}
_CONFORMER = {
    "hidden_size": 72, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 108,
    "conv_kernel_size": 5, "subsampling_conv_channels": 20, "num_mel_bins": 32,
}
_SEAMLESS = {
    "hidden_size": 96, "t2u_vocab_size": 73, "encoder_layers": 2, "encoder_ffn_dim": 112,
    "encoder_attention_heads": 6, "decoder_layers": 2, "decoder_ffn_dim": 104,
    "decoder_attention_heads": 4, "speech_encoder_layers": 2, "speech_encoder_attention_heads": 6,
    "speech_encoder_intermediate_size": 108, "feature_projection_input_dim": 26,
    "conv_depthwise_kernel_size": 7, "num_conv_pos_embeddings": 8, "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0, "speech_encoder_layerdrop": 0.0, "num_conv_pos_embedding_groups": 4,
    "adaptor_kernel_size": 4, "adaptor_stride": 2, "decoder_start_token_id": 3,
    "left_max_position_embeddings": 12,
}

_FLAMINGO = {
    "audio_config": {
        "model_type": "audioflamingo3_encoder", "hidden_size": 72, "intermediate_size": 108,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_mel_bins": 26,
        "max_source_positions": 30},
    "text_config": _QWEN2, "audio_token_id": AUDIO_TOKEN,
}

CODECS: Specs = [
    ("encodec", "EncodecModel", _CODEC | {"target_bandwidths": [60.0]}, sound(256)),
    ("dac", "DacModel", {
        "encoder_hidden_size": 12, "downsampling_ratios": [2, 4], "decoder_hidden_size": 56,
        "n_codebooks": 3, "codebook_size": 32, "codebook_dim": 10}, sound(256)),
    ("mimi", "MimiModel", _MIMI, sound(512)),
    ("xcodec", "XcodecModel", {
        "codebook_size": 32, "target_bandwidths": [0.5, 1],
        "acoustic_model_config": {
            "model_type": "dac", "encoder_hidden_size": 8, "downsampling_ratios": [8, 5, 4, 2],
            "decoder_hidden_size": 64, "hidden_size": 48},
        "semantic_model_config": {
            "model_type": "hubert", "conv_dim": [20, 24, 28], "conv_stride": [5, 8, 8],
            "conv_kernel": [10, 8, 8], "num_conv_pos_embeddings": 8, "hidden_size": 48,
            "num_conv_pos_embedding_groups": 4, "intermediate_size": 108, "num_hidden_layers": 2,
            "num_attention_heads": 6}}, sound(3200)),
    ("wavtokenizer", "WavTokenizerModel", {
        "num_filters": 8, "upsampling_ratios": [4, 2], "num_lstm_layers": 1, "hidden_size": 64,
        "codebook_size": 32, "codebook_dim": 64, "decoder_hidden_size": 96,
        "decoder_intermediate_size": 112, "decoder_num_layers": 2}, sound(512)),
    ("fastspeech2-hifigan", "FastSpeech2ConformerHifiGan", {
        "model_in_dim": 26, "upsample_initial_channel": 48, "upsample_rates": [4, 2],
        "upsample_kernel_sizes": [8, 4], "resblock_kernel_sizes": [3, 5],
        "resblock_dilation_sizes": [[1, 3], [1, 3]]}, features("spectrogram", 2, 23, 26)),
]

SPEAKING: Specs = [
    ("vits", "VitsModel", {
        "vocab_size": 38, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "ffn_dim": 88, "flow_size": 20, "spectrogram_bins": 26, "upsample_initial_channel": 32,
        "upsample_rates": [4, 2], "upsample_kernel_sizes": [8, 4],
        "resblock_kernel_sizes": [3, 5], "resblock_dilation_sizes": [[1, 3], [1, 3]],
        "duration_predictor_filter_channels": 48, "prior_encoder_num_wavenet_layers": 2,
        "posterior_encoder_num_wavenet_layers": 2, "layerdrop": 0.0,
        "use_stochastic_duration_prediction": False}, spoken),
    ("vits-stochastic", "VitsModel", {
        "vocab_size": 38, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "ffn_dim": 88, "flow_size": 20, "spectrogram_bins": 26, "upsample_initial_channel": 32,
        "upsample_rates": [4, 2], "upsample_kernel_sizes": [8, 4],
        "resblock_kernel_sizes": [3, 5], "resblock_dilation_sizes": [[1, 3], [1, 3]],
        "duration_predictor_filter_channels": 48, "prior_encoder_num_wavenet_layers": 2,
        "posterior_encoder_num_wavenet_layers": 2, "layerdrop": 0.0}, spoken),
    ("fastspeech2-conformer", "FastSpeech2ConformerModel", {
        "vocab_size": 38, "hidden_size": 48, "num_mel_bins": 26, "encoder_layers": 2,
        "encoder_num_attention_heads": 4, "decoder_num_attention_heads": 6, "decoder_layers": 2,
        "encoder_linear_units": 88, "decoder_linear_units": 104, "decoder_kernel_size": 5,
        "speech_decoder_postnet_units": 20, "duration_predictor_channels": 22,
        "energy_predictor_channels": 26, "pitch_predictor_channels": 30,
        "speech_decoder_postnet_layers": 2, "pitch_predictor_layers": 2}, spoken),
    ("csm-backbone", "CsmBackboneModel", {
        "num_codebooks": 3, "vocab_size": 61, "text_vocab_size": VOCAB}, codes(3, 61)),
    ("csm-depth-decoder", "CsmDepthDecoderForCausalLM", {
        "num_codebooks": 16, "backbone_hidden_size": 80, "vocab_size": 61, "hidden_size": 96,
        "max_position_embeddings": 17},
        lambda model: {
            "input_ids": torch.randint(3, 61, (BATCH, 12)),
            "backbone_last_hidden_state": torch.randn(BATCH, 80)}),
    ("dia", "DiaForConditionalGeneration", {
        "delay_pattern": [0, 2, 4],
        "encoder_config": {
            "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 6, "head_dim": 14,
            "intermediate_size": 112, "num_hidden_layers": 2, "vocab_size": VOCAB},
        "decoder_config": {
            "vocab_size": 67, "num_channels": 3, "num_hidden_layers": 2, "hidden_size": 88,
            "intermediate_size": 104, "num_attention_heads": 6, "num_key_value_heads": 2,
            "head_dim": 18, "cross_num_attention_heads": 4, "cross_head_dim": 22,
            "cross_num_key_value_heads": 4, "cross_hidden_size": 96, "pad_token_id": 64,
            "eos_token_id": 65, "bos_token_id": 66}},
        lambda model: {
            "input_ids": tokens(), "decoder_input_ids": torch.randint(3, 61, (BATCH, 13, 3))}),
    ("bark-semantic", "BarkSemanticModel", {
        "block_size": 40, "input_vocab_size": VOCAB, "output_vocab_size": 61, "num_layers": 2,
        "num_heads": 6, "hidden_size": 96}, lambda model: {"input_ids": tokens()}),
    ("bark-fine", "BarkFineModel", {
        "block_size": 40, "input_vocab_size": 61, "output_vocab_size": 61, "num_layers": 2,
        "num_heads": 6, "hidden_size": 96, "n_codes_total": 4, "n_codes_given": 1},
        lambda model: codes(4, 61)(model) | {"codebook_idx": 2}),
    ("musicgen", "MusicgenForConditionalGeneration", {
        "text_encoder": _T5 | {"model_type": "t5", "vocab_size": VOCAB},
        "audio_encoder": _CODEC | {"model_type": "encodec"}, "decoder": _MUSIC}, captioned),
    ("musicgen-decoder", "MusicgenForCausalLM", _MUSIC, flat_codes),
    ("musicgen-melody", "MusicgenMelodyForConditionalGeneration", {
        "text_encoder": _T5 | {"model_type": "t5", "vocab_size": VOCAB},
        "audio_encoder": _CODEC | {"model_type": "encodec"}, "decoder": _MUSIC,
        "chroma_length": 10}, captioned),
    ("moshi", "MoshiForCausalLM", {
        "ffn_dim": 112, "audio_vocab_size": 61, "num_codebooks": 3,
        "audio_encoder_config": _MIMI | {"model_type": "mimi"},
        "depth_decoder_config": {"ffn_dim": 104, "num_codebooks": 3, "audio_vocab_size": 61,
            "vocab_size": VOCAB, "input_size": 96, "hidden_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4}},
        lambda model: {"input_ids": tokens()}),
]

HEARING: Specs = [
    ("seamless-m4t-speech", "SeamlessM4TForSpeechToText", _SEAMLESS, translated),
    ("seamless-m4t-text", "SeamlessM4TForTextToText", _SEAMLESS,
        lambda model: {"input_ids": tokens(), "decoder_input_ids": tokens(TARGET_LENGTH)}),
    ("seamless-m4t-v2-speech", "SeamlessM4Tv2ForSpeechToText", _SEAMLESS, translated),
    ("speech-encoder-decoder", "SpeechEncoderDecoderModel", {
        "encoder": _WAVE | {"model_type": "wav2vec2", "hidden_size": 96},
        "decoder": {"model_type": "bert", "is_decoder": True, "add_cross_attention": True}},
        lambda model: waveform(model) | {"decoder_input_ids": tokens(TARGET_LENGTH)}),
    ("clap", "ClapModel", {
        "text_config": {"projection_dim": 52, "hidden_size": 96}, "projection_dim": 52,
        "audio_config": {
            "num_mel_bins": 16, "spec_size": 64, "window_size": 4, "depths": [1, 2],
            "num_attention_heads": [2, 4], "num_hidden_layers": 2, "patch_embeds_hidden_size": 24,
            "hidden_size": 48, "projection_dim": 52, "mlp_ratio": 2.0, "patch_size": 4}},
        lambda model: {
            "input_ids": tokens(14), "input_features": torch.randn(BATCH, 1, 256, 16)}),
    ("qwen2-audio", "Qwen2AudioForConditionalGeneration", {
        "audio_config": _WHISPER | {"model_type": "qwen2_audio_encoder"}, "text_config": _QWEN2,
        "audio_token_index": AUDIO_TOKEN},
        heard(15, BATCH, 26, 60, masked="feature_attention_mask")),
    ("voxtral", "VoxtralForConditionalGeneration", {
        "audio_config": {
            "model_type": "voxtral_encoder", "hidden_size": 72, "intermediate_size": 288,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_mel_bins": 26,
            "max_source_positions": 32},
        "text_config": _LLAMA, "audio_token_id": AUDIO_TOKEN}, heard(8, BATCH, 26, 64)),
    ("granite-speech", "GraniteSpeechForConditionalGeneration", {
        "text_config": {"model_type": "granite"},
        "encoder_config": {
            "input_dim": 26, "num_layers": 2, "hidden_dim": 60, "feedforward_mult": 2,
            "num_heads": 4, "dim_head": 18, "output_dim": 14, "context_size": 10,
            "max_pos_emb": 20, "conv_kernel_size": 5},
        "projector_config": {
            "model_type": "blip_2_qformer", "hidden_size": 48, "num_attention_heads": 4,
            "intermediate_size": 88, "num_hidden_layers": 2, "encoder_hidden_size": 60},
        "has_lora_adapter": False, "audio_token_index": AUDIO_TOKEN, "downsample_rate": 5,
        "window_size": 10}, heard(8, BATCH, 40, 26)),
    ("parakeet-ctc", "ParakeetForCTC", {
        "encoder_config": _CONFORMER, "vocab_size": VOCAB},
        features("input_features", BATCH, 80, 32)),
    ("lasr-ctc", "LasrForCTC", {"encoder_config": _CONFORMER, "vocab_size": VOCAB},
        features("input_features", BATCH, 80, 32)),
    ("kyutai-speech-to-text", "KyutaiSpeechToTextModel", {
        "codebook_vocab_size": 61, "num_codebooks": 3, "ffn_dim": 112, "audio_bos_token_id": 60,
        "audio_pad_token_id": 59, "codec_config": _MIMI | {"model_type": "mimi"}},
        codes(4, 55)),
    ("pop2piano", "Pop2PianoForConditionalGeneration", {
        "d_model": 96, "d_kv": 14, "d_ff": 112, "num_layers": 2, "num_decoder_layers": 2,
        "num_heads": 6, "relative_attention_num_buckets": 10, "composer_vocab_size": 21,
        "relative_attention_max_distance": 20},
        lambda model: {
            "inputs_embeds": torch.randn(BATCH, 23, 96),
            "decoder_input_ids": tokens(TARGET_LENGTH)}),
    ("moonshine-streaming", "MoonshineStreamingForConditionalGeneration", {
        "encoder_config": {
            "hidden_size": 72, "intermediate_size": 108, "num_attention_heads": 6,
            "num_key_value_heads": 6, "sliding_windows": [[8, 2], [8, 0]]},
        "decoder_start_token_id": 1, "num_key_value_heads": 6},
        lambda model: {
            "input_values": torch.randn(2, 1280),
            "decoder_input_ids": tokens(TARGET_LENGTH, batch=2)}),
    ("audioflamingo3", "AudioFlamingo3ForConditionalGeneration", _FLAMINGO,
        heard(15, BATCH, 26, 60, masked="input_features_mask")),
    ("glmasr", "GlmAsrForConditionalGeneration", {
        "audio_config": {
            "model_type": "glmasr_encoder", "hidden_size": 72, "intermediate_size": 288,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
            "num_mel_bins": 26, "max_position_embeddings": 30, "head_dim": 18},
        "text_config": _LLAMA, "audio_token_id": AUDIO_TOKEN},
        heard(8, BATCH, 26, 64, masked="input_features_mask")),
    ("canary", "CanaryForConditionalGeneration", {
        "encoder_config": _CONFORMER | {"model_type": "parakeet_encoder"},
        "decoder_config": {
            "hidden_size": 72, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 22,
            "intermediate_size": 104, "vocab_size": VOCAB}, "vocab_size": VOCAB},
        lambda model: {
            "input_features": torch.randn(2, 80, 32),
            "decoder_input_ids": tokens(TARGET_LENGTH, batch=2)}),
    ("cohere-asr", "CohereAsrForConditionalGeneration", {
        "encoder_config": _CONFORMER | {"model_type": "parakeet_encoder"}, "head_dim": 16,
        "num_key_value_heads": 6, "decoder_start_token_id": 1},
        lambda model: {
            "input_features": torch.randn(2, 80, 32),
            "decoder_input_ids": tokens(TARGET_LENGTH, batch=2)}),
    ("omniasr-ctc", "OmniASRForCTC", {
        "audio_config": {
            "model_type": "omniasr_audio", "hidden_size": 72, "conv_dim": [20, 24, 28],
            "conv_kernel": [10, 3, 2], "conv_stride": [5, 4, 3], "num_attention_heads": 6,
            "num_hidden_layers": 2, "num_conv_pos_embeddings": 8,
            "num_conv_pos_embedding_groups": 4, "intermediate_size": 108, "layerdrop": 0.0},
        "vocab_size": VOCAB}, sound(1300)),
    ("granite-speech5-ctc", "GraniteSpeech5ForCTC", {
        "encoder_config": {
            "vocab_size": VOCAB, "hidden_size": 72, "intermediate_size": 108,
            "num_hidden_layers": 2, "num_attention_heads": 6, "num_mel_bins": 26,
            "context_size": 10,
            "max_position_embeddings": 30, "conv_kernel_size": 5, "subsample_layers": [1]},
        "vocab_size": VOCAB}, features("input_features", 2, 40, 104)),
    ("vibevoice-tokenizer-encoder", "VibeVoiceAcousticTokenizerEncoderModel", {
        "hidden_size": 20, "num_filters": 8, "downsampling_ratios": [2, 4], "depths": [1, 1, 2]},
        sound(256, "hidden_states")),
    ("bigvgan", "Qwen2_5OmniToken2WavBigVGANModel", {
        "mel_dim": 26, "upsample_initial_channel": 48, "resblock_kernel_sizes": [3, 5],
        "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5]], "upsample_rates": [4, 2],
        "upsample_kernel_sizes": [8, 4]}, features("mel_spectrogram", 2, 26, 23)),
    ("musicflamingo", "MusicFlamingoForConditionalGeneration", _FLAMINGO,
        heard(15, BATCH, 26, 60, masked="input_features_mask")),
    ("phi4-multimodal-audio", "Phi4MultimodalAudioModel", {
        "hidden_size": 72, "intermediate_size": 108, "num_blocks": 3, "num_attention_heads": 4,
        "ext_pw_out_channel": 72, "depthwise_separable_out_channel": 72, "input_size": 26,
        "time_reduction": 4, "bias_max_distance": 20, "nemo_conv_channels": 20},
        lambda model: {"hidden_states": torch.randn(2, 48, 26), "mask": None}),
    ("gemma3n-audio", "Gemma3nAudioEncoder", {
        "input_feat_size": 32, "hidden_size": 72, "conf_attention_chunk_size": 4,
        "conf_attention_context_left": 5, "conf_num_attention_heads": 4,
        "conf_num_hidden_layers": 2, "sscp_conv_channel_size": [12, 8]},
        lambda model: {
            "audio_mel": torch.randn(2, 64, 32),
            "audio_mel_mask": torch.zeros(2, 64, dtype=torch.bool)}),
    ("gemma4-audio", "Gemma4AudioModel", {
        "hidden_size": 72, "num_hidden_layers": 2, "num_attention_heads": 4,
        "subsampling_conv_channels": [16, 8], "attention_chunk_size": 4,
        "attention_context_left": 5, "output_proj_dims": 60},
        lambda model: {
            "input_features": torch.randn(2, 64, 16),
            "attention_mask": torch.ones(2, 64, dtype=torch.bool)}),
    ("granite-speech-ctc-encoder", "GraniteSpeechCTCEncoder", {
        "input_dim": 26, "num_layers": 2, "hidden_dim": 60, "feedforward_mult": 2,
        "num_heads": 4, "dim_head": 18, "output_dim": 14, "context_size": 10,
        "max_pos_emb": 20, "conv_kernel_size": 5},
        lambda model: {"hidden_states": torch.randn(2, 40, 26)}),
]

for _specs in (CODECS, SPEAKING, HEARING):
    for _name, _class, _own, _inputs in _specs:
        add("transformers-audio", _name, _class, TEXT, _own, _inputs)
