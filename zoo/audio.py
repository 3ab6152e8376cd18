"""Networks of torchaudio for speech and music, small and untrained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torchaudio import models

from .registry import Example, register


def audio(builder: Callable[[], Example]) -> Callable[[], Example]:
    """Register under the builder's name."""
    return register(f"torchaudio/{builder.__name__.replace('_', '-')}", "torchaudio")(builder)


WAVES = {
    "extractor_conv_layer_config": [(20, 10, 5), (24, 3, 2), (28, 2, 2)],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 48,
    "encoder_projection_dropout": 0.0,
    "encoder_pos_conv_kernel": 7,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 2,
    "encoder_num_heads": 6,
    "encoder_attention_dropout": 0.0,
    "encoder_ff_interm_features": 68,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.0,
    "encoder_layer_drop": 0.0,
}


def sounds(seconds: int = 1300) -> torch.Tensor:
    return torch.randn(3, seconds)


@audio
def wav2vec2() -> Example:
    model = models.wav2vec2_model(
        extractor_mode="group_norm", encoder_layer_norm_first=False, aux_num_out=11, **WAVES
    )
    return Example(model, (sounds(),))


@audio
def wav2vec2_layer_norm() -> Example:
    """With lengths, so that padding is masked."""
    model = models.wav2vec2_model(
        extractor_mode="layer_norm", encoder_layer_norm_first=True, aux_num_out=None, **WAVES
    )
    return Example(model, (sounds(), torch.tensor([1300, 900, 1100])))


@audio
def wavlm() -> Example:
    model = models.wavlm_model(
        extractor_mode="group_norm", encoder_layer_norm_first=False, aux_num_out=11,
        encoder_num_buckets=16, encoder_max_distance=30, **WAVES,
    )  # fmt: skip
    return Example(model, (sounds(),))


@audio
def conformer() -> Example:
    model = models.Conformer(48, 6, 68, 2, 7)
    return Example(model, (torch.randn(3, 20, 48), torch.tensor([20, 13, 17])))


@audio
def conformer_convolution_first() -> Example:
    model = models.Conformer(48, 6, 68, 2, 7, use_group_norm=True, convolution_first=True)
    return Example(model, (torch.randn(3, 20, 48), torch.tensor([20, 13, 17])))


@audio
def emformer() -> Example:
    model = models.Emformer(
        48, 6, 68, 2, 4, left_context_length=3, right_context_length=1, max_memory_size=2
    )
    return Example(model, (torch.randn(3, 9, 48), torch.tensor([8, 6, 7])))


@audio
def conv_tasnet() -> Example:
    model = models.ConvTasNet(3, 8, 40, 3, 20, 28, 3, 2)
    return Example(model, (torch.randn(2, 1, 400),))


@audio
def deepspeech() -> Example:
    return Example(models.DeepSpeech(14, 24, 11), (torch.randn(2, 1, 20, 14),))


@audio
def wav2letter() -> Example:
    return Example(models.Wav2Letter(11, "mfcc", 14), (torch.randn(2, 14, 60),))


@audio
def wavernn() -> Example:
    """A frame more is needed on each side of the spectrogram than there is sound for."""
    model = models.WaveRNN([2, 3], 17, 6, 2, 26, 22, 3, 14, 18, 20)
    return Example(model, (torch.randn(2, 1, 6 * 7), torch.randn(2, 1, 14, 9)))


@audio
def tacotron2() -> Example:
    model = models.Tacotron2(
        n_mels=14, n_symbol=23, symbol_embedding_dim=28, encoder_embedding_dim=28,
        decoder_rnn_dim=36, attention_rnn_dim=32, attention_hidden_dim=18,
        attention_location_n_filter=6, attention_location_kernel_size=7, prenet_dim=22,
        postnet_n_convolution=3, postnet_embedding_dim=26, decoder_dropout=0.0,
        attention_dropout=0.0,
    )  # fmt: skip
    words, lengths = torch.randint(23, (3, 8)), torch.tensor([8, 7, 5])
    return Example(model, (words, lengths, torch.randn(3, 14, 9), torch.tensor([9, 8, 6])))


@audio
def hdemucs() -> Example:
    model = models.HDemucs(
        ["drums", "bass", "voice"], audio_channels=2, channels=8, nfft=256, depth=3,
        dconv_attn=2, dconv_lstm=2, norm_starts=2,
    )  # fmt: skip
    return Example(model, (torch.randn(2, 2, 2048),))


@audio
def emformer_rnnt() -> Example:
    model = models.rnnt.emformer_rnnt_model(
        input_dim=14, encoding_dim=40, num_symbols=23, segment_length=8, right_context_length=4,
        time_reduction_input_dim=12, time_reduction_stride=4, transformer_num_heads=4,
        transformer_ffn_dim=68, transformer_num_layers=2, transformer_dropout=0.0,
        transformer_activation="gelu", transformer_left_context_length=3,
        transformer_max_memory_size=0, transformer_weight_init_scale_strategy="depthwise",
        transformer_tanh_on_mem=True, symbol_embedding_dim=28, num_lstm_layers=2,
        lstm_layer_norm=True, lstm_layer_norm_epsilon=1e-3, lstm_dropout=0.0,
    )  # fmt: skip
    sound, words = torch.randn(3, 20, 14), torch.randint(23, (3, 6)).int()
    lengths = torch.tensor([20, 16, 12]).int(), torch.tensor([6, 4, 5]).int()
    return Example(model, (sound, lengths[0], words, lengths[1]))


@audio
def squim_objective() -> Example:
    model = models.squim_objective_model(
        feat_dim=24, win_len=16, d_model=20, nhead=4, hidden_dim=28, num_blocks=2,
        rnn_type="LSTM", chunk_size=9,
    )  # fmt: skip
    return Example(model, (torch.randn(2, 400),))
