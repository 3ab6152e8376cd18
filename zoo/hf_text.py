"""Text models of transformers: encoders, decoders, state-space hybrids and encoder-decoders."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from ._hf import TARGET_LENGTH, TEXT, VOCAB, add, tokens


def encoder_inputs(model: PreTrainedModel) -> dict[str, Any]:
    """Tokens with one padded row, so that the mask matters."""
    ids = tokens()
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def long_inputs(model: PreTrainedModel) -> dict[str, Any]:
    """Tokens enough for several blocks of the sparse attention patterns."""
    return {"input_ids": tokens(length=64)}


def decoder_inputs(model: PreTrainedModel) -> dict[str, Any]:
    """Plain tokens; the causal mask is the model's own."""
    return {"input_ids": tokens()}


def seq2seq_inputs(model: PreTrainedModel) -> dict[str, Any]:
    """Source and target tokens of different lengths."""
    return {"input_ids": tokens(), "decoder_input_ids": tokens(TARGET_LENGTH)}


Specs = list[tuple[str, str, dict[str, Any]]]

_MOE = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 44}
_LOCAL = {"num_local_experts": 8, "num_experts_per_tok": 2}
_ROUTED = {
    "n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 3,
    "moe_intermediate_size": 44, "first_k_dense_replace": 1, "n_group": 4, "topk_group": 2,
}
_MLA = {
    "num_key_value_heads": 6, "kv_lora_rank": 28, "q_lora_rank": 36, "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 14, "v_head_dim": 18,
}
_INDEXER = {"index_topk": 6, "index_head_dim": 24, "index_n_heads": 4}
_LAYER_MLPS = {"mlp_layer_types": ["dense", "sparse"]}
_KINDS = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}

ENCODERS: Specs = [
    ("bert", "BertForSequenceClassification", {}),
    ("bert-mlm", "BertForMaskedLM", {}),
    ("roberta", "RobertaForSequenceClassification", {}),
    ("roberta-prelayernorm", "RobertaPreLayerNormForSequenceClassification", {}),
    ("distilbert", "DistilBertForSequenceClassification", {"hidden_dim": 112}),
    ("albert", "AlbertForSequenceClassification", {"embedding_size": 28}),
    ("electra", "ElectraForSequenceClassification", {"embedding_size": 28}),
    ("deberta", "DebertaForSequenceClassification", {
        "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "pooler_hidden_size": 96}),
    ("deberta-v2", "DebertaV2ForSequenceClassification", {
        "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 22,
        "share_att_key": True, "norm_rel_ebd": "layer_norm", "conv_kernel_size": 3,
        "pooler_hidden_size": 96}),
    ("mpnet", "MPNetForSequenceClassification", {}),
    ("camembert", "CamembertForSequenceClassification", {}),
    ("xlm-roberta", "XLMRobertaForSequenceClassification", {}),
    ("xlm-roberta-xl", "XLMRobertaXLForSequenceClassification", {}),
    ("xlm", "XLMForSequenceClassification", {"n_langs": 3}),
    ("flaubert", "FlaubertForSequenceClassification", {}),
    ("xlnet", "XLNetForSequenceClassification", {"d_inner": 112}),
    ("funnel", "FunnelForSequenceClassification", {
        "block_sizes": [1, 2], "num_decoder_layers": 1, "d_inner": 112, "d_head": 14}),
    ("modernbert", "ModernBertForSequenceClassification", {
        "local_attention": 8, "global_attn_every_n_layers": 2, "classifier_pooling": "mean"}),
    ("eurobert", "EuroBertForSequenceClassification", {}),
    ("nomic-bert", "NomicBertForSequenceClassification", {}),
    ("gte", "GteForSequenceClassification", {}),
    ("convbert", "ConvBertForSequenceClassification", {"embedding_size": 28}),
    ("squeezebert", "SqueezeBertForSequenceClassification", {"embedding_size": 96}),
    ("mobilebert", "MobileBertForSequenceClassification", {
        "embedding_size": 28, "intra_bottleneck_size": 48}),
    ("roformer", "RoFormerForSequenceClassification", {"embedding_size": 28}),
    ("ernie", "ErnieForSequenceClassification", {}),
    ("rembert", "RemBertForSequenceClassification", {
        "input_embedding_size": 28, "output_embedding_size": 36}),
    ("fnet", "FNetForSequenceClassification", {}),
    ("mra", "MraForSequenceClassification", {}),
    ("yoso", "YosoForSequenceClassification", {}),
    ("ibert", "IBertForSequenceClassification", {"quant_mode": False}),
    ("megatron-bert", "MegatronBertForSequenceClassification", {}),
    ("esm", "EsmForSequenceClassification", {"position_embedding_type": "rotary"}),
    ("layoutlm", "LayoutLMForSequenceClassification", {"max_2d_position_embeddings": 60}),
    ("lilt", "LiltForSequenceClassification", {"max_2d_position_embeddings": 60}),
    ("markuplm", "MarkupLMForSequenceClassification", {"max_depth": 6}),
    ("luke", "LukeForSequenceClassification", {
        "entity_vocab_size": 61, "entity_emb_size": 28}),
    ("xmod", "XmodForSequenceClassification", {
        "languages": ["en_XX", "de_DE"], "default_language": "en_XX"}),
    ("roc-bert", "RoCBertForSequenceClassification", {
        "pronunciation_embed_dim": 28, "pronunciation_vocab_size": 137, "shape_embed_dim": 36,
        "shape_vocab_size": 139}),
    ("data2vec-text", "Data2VecTextForSequenceClassification", {}),
    ("bert-generation", "BertGenerationEncoder", {}),
    ("splinter", "SplinterModel", {}),
    ("tapas", "TapasForSequenceClassification", {}),
    ("canine", "CanineForSequenceClassification", {
        "local_transformer_stride": 16, "num_hash_buckets": 60}),
    ("dpr", "DPRQuestionEncoder", {}),
    ("dpr-reader", "DPRReader", {}),
    ("bert-generation-decoder", "BertGenerationDecoder", {"is_decoder": True}),
    ("jina-embeddings-v3", "JinaEmbeddingsV3ForSequenceClassification", {}),
    ("esmc", "EsmcForSequenceClassification", {"num_key_value_heads": 6, "head_dim": 16}),
    ("ultrabert", "UltrabertForSequenceClassification", _KINDS),
    ("openai-privacy-filter", "OpenAIPrivacyFilterForTokenClassification", {
        "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": 4}),
    ("neomme", "NeoMMEForMaskedLM", _KINDS | {
        "embedding_rank": 28, "head_dim": 16}),
    ("perceiver", "PerceiverForSequenceClassification", {
        "num_latents": 10, "d_latents": 56, "d_model": 96, "num_blocks": 1,
        "num_self_attends_per_block": 2, "num_self_attention_heads": 4,
        "num_cross_attention_heads": 4}),
]

SPARSE_ENCODERS: Specs = [
    ("nystromformer", "NystromformerForSequenceClassification", {
        "segment_means_seq_len": 64, "num_landmarks": 8, "conv_kernel_size": 9,
        "max_position_embeddings": 90}),
    ("longformer", "LongformerForSequenceClassification", {
        "attention_window": [8, 16], "max_position_embeddings": 90}),
    ("big-bird", "BigBirdForSequenceClassification", {
        "attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 2,
        "max_position_embeddings": 90}),
    ("reformer", "ReformerForSequenceClassification", {
        "hidden_size": 96, "attention_head_size": 12, "num_attention_heads": 6,
        "axial_pos_shape": [4, 16], "axial_pos_embds_dim": [36, 60], "feed_forward_size": 112,
        "attn_layers": ["local", "lsh"], "num_buckets": 4, "num_hashes": 2,
        "lsh_attn_chunk_length": 16, "local_attn_chunk_length": 8,
        "max_position_embeddings": 64, "is_decoder": False, "hash_seed": 0}),
]

DECODERS: Specs = [
    ("gpt2", "GPT2LMHeadModel", {"n_inner": 112}),
    ("gpt2-classifier", "GPT2ForSequenceClassification", {"n_inner": 112}),
    ("openai-gpt", "OpenAIGPTLMHeadModel", {}),
    ("gpt-bigcode", "GPTBigCodeForCausalLM", {"n_inner": 112}),
    ("gpt-neo", "GPTNeoForCausalLM", {
        "num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 8}),
    ("gpt-neox", "GPTNeoXForCausalLM", {}),
    ("gpt-neox-japanese", "GPTNeoXJapaneseForCausalLM", {}),
    ("gptj", "GPTJForCausalLM", {"n_inner": 112, "rotary_dim": 8}),
    ("codegen", "CodeGenForCausalLM", {
        "n_inner": 112, "rotary_dim": 8, "n_embd": 96, "n_head": 4}),
    ("opt", "OPTForCausalLM", {"ffn_dim": 112, "word_embed_proj_dim": 52}),
    ("bloom", "BloomForCausalLM", {}),
    ("mpt", "MptForCausalLM", {"d_model": 96, "n_heads": 6, "n_layers": 2, "max_seq_len": 50}),
    ("falcon", "FalconForCausalLM", {"multi_query": True, "ffn_hidden_size": 112}),
    ("falcon-gqa", "FalconForCausalLM", {
        "new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 112}),
    ("llama", "LlamaForCausalLM", {}),
    ("llama-classifier", "LlamaForSequenceClassification", {}),
    ("mistral", "MistralForCausalLM", {"sliding_window": 8}),
    ("ministral", "MinistralForCausalLM", _KINDS),
    ("mixtral", "MixtralForCausalLM", _LOCAL),
    ("qwen2", "Qwen2ForCausalLM", {}),
    ("qwen2-moe", "Qwen2MoeForCausalLM", _MOE | {"shared_expert_intermediate_size": 56}),
    ("qwen3", "Qwen3ForCausalLM", {}),
    ("qwen3-moe", "Qwen3MoeForCausalLM", _MOE),
    ("gemma", "GemmaForCausalLM", {}),
    ("gemma2", "Gemma2ForCausalLM", _KINDS | {"query_pre_attn_scalar": 20}),
    ("gemma3", "Gemma3ForCausalLM", _KINDS | {"query_pre_attn_scalar": 20}),
    ("gemma3n", "Gemma3nForCausalLM", {
        "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8,
        "hidden_size_per_layer_input": 12, "vocab_size_per_layer_input": 131, "laurel_rank": 10,
        "altup_num_inputs": 3, "num_kv_shared_layers": 0, "intermediate_size": [112, 112],
        "activation_sparsity_pattern": [0.0, 0.0]}),
    ("gemma4", "Gemma4ForCausalLM", _KINDS | {
        "hidden_size_per_layer_input": 12, "vocab_size_per_layer_input": 131,
        "global_head_dim": 28}),
    ("phi", "PhiForCausalLM", {"num_key_value_heads": 2}),
    ("phi3", "Phi3ForCausalLM", {"sliding_window": 8}),
    ("phimoe", "PhimoeForCausalLM", _LOCAL),
    ("stablelm", "StableLmForCausalLM", {"qk_layernorm": True}),
    ("stablelm-parallel", "StableLmForCausalLM", {"use_parallel_residual": True}),
    ("starcoder2", "Starcoder2ForCausalLM", {"sliding_window": 8}),
    ("olmo", "OlmoForCausalLM", {"clip_qkv": 8.0}),
    ("olmo2", "Olmo2ForCausalLM", {}),
    ("olmo3", "Olmo3ForCausalLM", _KINDS),
    ("olmoe", "OlmoeForCausalLM", {"num_experts": 8, "num_experts_per_tok": 2}),
    ("flex-olmo", "FlexOlmoForCausalLM", {"num_experts": 8, "num_experts_per_tok": 2}),
    ("cohere", "CohereForCausalLM", {"use_qk_norm": True}),
    ("cohere2", "Cohere2ForCausalLM", _KINDS),
    ("granite", "GraniteForCausalLM", {
        "embedding_multiplier": 1.5, "residual_multiplier": 0.7, "logits_scaling": 2.0,
        "attention_multiplier": 0.2}),
    ("granitemoe", "GraniteMoeForCausalLM", _LOCAL),
    ("granitemoeshared", "GraniteMoeSharedForCausalLM", _LOCAL | {"shared_intermediate_size": 56}),
    ("deepseek-v2", "DeepseekV2ForCausalLM", _MLA | _ROUTED | {
        "topk_method": "group_limited_greedy"}),
    ("deepseek-v3", "DeepseekV3ForCausalLM", _MLA | _ROUTED),
    ("persimmon", "PersimmonForCausalLM", {}),
    ("ctrl", "CTRLLMHeadModel", {"dff": 112}),
    ("xglm", "XGLMForCausalLM", {"ffn_dim": 112}),
    ("biogpt", "BioGptForCausalLM", {}),
    ("nemotron", "NemotronForCausalLM", {}),
    ("glm", "GlmForCausalLM", {}),
    ("glm4", "Glm4ForCausalLM", {}),
    ("glm4-moe", "Glm4MoeForCausalLM", _ROUTED),
    ("jetmoe", "JetMoeForCausalLM", {
        "kv_channels": 20, "num_local_experts": 8, "num_experts_per_tok": 3}),
    ("dbrx", "DbrxForCausalLM", {
        "d_model": 96, "n_heads": 6, "n_layers": 2, "max_seq_len": 50,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {
            "hidden_size": 96, "ffn_hidden_size": 112, "moe_num_experts": 8, "moe_top_k": 2}}),
    ("gpt-oss", "GptOssForCausalLM", _KINDS | _LOCAL),
    ("ernie4-5", "Ernie4_5ForCausalLM", {}),
    ("ernie4-5-moe", "Ernie4_5_MoeForCausalLM", {
        "moe_intermediate_size": 44, "moe_k": 2, "moe_num_experts": 8,
        "moe_num_shared_experts": 2, "moe_layer_start_index": 1}),
    ("smollm3", "SmolLM3ForCausalLM", {}),
    ("arcee", "ArceeForCausalLM", {}),
    ("apertus", "ApertusForCausalLM", {}),
    ("helium", "HeliumForCausalLM", {"head_dim": 16}),
    ("exaone4", "Exaone4ForCausalLM", _KINDS),
    ("llama4", "Llama4ForCausalLM", {
        "intermediate_size_mlp": 76, "num_local_experts": 8, "interleave_moe_layer_step": 2,
        "attention_chunk_size": 8}),
    ("minimax-m2", "MiniMaxM2ForCausalLM", _LOCAL),
    ("diffllama", "DiffLlamaForCausalLM", {}),
    ("doge", "DogeForCausalLM", {}),
    ("dots1", "Dots1ForCausalLM", _ROUTED),
    ("bitnet", "BitNetForCausalLM", {}),
    ("hunyuan-dense", "HunYuanDenseV1ForCausalLM", {}),
    ("hunyuan-moe", "HunYuanMoEV1ForCausalLM", {"num_experts": 8, "moe_topk": 2}),
    ("seed-oss", "SeedOssForCausalLM", {}),
    ("modernbert-decoder", "ModernBertDecoderForCausalLM", {
        "local_attention": 8, "global_attn_every_n_layers": 2}),
    ("nanochat", "NanoChatForCausalLM", {}),
    ("vaultgemma", "VaultGemmaForCausalLM", _KINDS | {"query_pre_attn_scalar": 20}),
    ("longcat-flash", "LongcatFlashForCausalLM", _MLA | {
        "num_layers": 2, "head_dim": 8, "ffn_hidden_size": 112, "moe_topk": 3,
        "n_routed_experts": 8, "zero_expert_num": 2, "expert_ffn_hidden_size": 44}),
    ("afmoe", "AfmoeForCausalLM", _MOE),
    ("minicpm3", "MiniCPM3ForCausalLM", _MLA),
    ("cpmant", "CpmAntForCausalLM", {
        "dim_head": 20, "dim_ff": 112, "position_bias_num_buckets": 10,
        "position_bias_max_distance": 60, "prompt_types": 3, "prompt_length": 4,
        "segment_types": 9}),
    ("ministral3", "Ministral3ForCausalLM", {
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "mscale": 1.0,
            "mscale_all_dim": 1.0, "beta_fast": 32.0, "beta_slow": 1.0, "llama_4_scaling_beta": 0.1,
            "original_max_position_embeddings": 16}}),
    ("mistral4", "Mistral4ForCausalLM", _MLA | _ROUTED | {
        "first_k_dense_replace": 1,
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "mscale": 1.0,
            "mscale_all_dim": 1.0, "beta_fast": 32.0, "beta_slow": 1.0, "llama_4_scaling_beta": 0.1,
            "original_max_position_embeddings": 16}}),
    ("cwm", "CwmForCausalLM", _KINDS),
    ("cohere2-moe", "Cohere2MoeForCausalLM", _KINDS | {
        "num_experts": 8, "num_experts_per_tok": 2, "num_shared_experts": 2}),
    ("deepseek-v32", "DeepseekV32ForCausalLM", _MLA | _ROUTED | _INDEXER | _LAYER_MLPS),
    ("deepseek-v4", "DeepseekV4ForCausalLM", {
        "num_key_value_heads": 1, "q_lora_rank": 36, "n_routed_experts": 8, "n_shared_experts": 2,
        "num_experts_per_tok": 3, "moe_intermediate_size": 44, "hc_mult": 3,
        "hc_sinkhorn_iters": 3, "sliding_window": 8, "o_groups": 2, "o_lora_rank": 22,
        "index_n_heads": 4, "index_head_dim": 24, "index_topk": 4, "num_nextn_predict_layers": 0}),
    ("exaone-moe", "ExaoneMoeForCausalLM", _KINDS | _MOE | _LAYER_MLPS | {
        "num_shared_experts": 2, "n_group": 4, "topk_group": 2}),
    ("flint", "FlintForCausalLM", _KINDS | _MOE | {"shared_expert_intermediate_size": 56}),
    ("glm4-moe-lite", "Glm4MoeLiteForCausalLM", _MLA | _ROUTED | _LAYER_MLPS),
    ("glm-moe-dsa", "GlmMoeDsaForCausalLM", _MLA | _ROUTED | _INDEXER | _LAYER_MLPS),
    ("granite-swa", "GraniteSWAForCausalLM", _KINDS | {
        "embedding_multiplier": 1.5, "residual_multiplier": 0.7, "logits_scaling": 2.0,
        "attention_multiplier": 0.2}),
    ("granitemoe-swa", "GraniteMoeSWAForCausalLM", _KINDS | _LOCAL | {
        "shared_intermediate_size": 56}),
    ("hrm-text", "HrmTextForCausalLM", {"num_layers_per_stack": 1}),
    ("hy-v3", "HYV3ForCausalLM", _MOE | _LAYER_MLPS | {"num_shared_experts": 2}),
    ("hy-v4", "HYV4ForCausalLM", _MLA | _ROUTED | _INDEXER | _LAYER_MLPS | {
        "hc_mult": 3, "head_dim": 22}),
    ("jais2", "Jais2ForCausalLM", {}),
    ("laguna", "LagunaForCausalLM", _KINDS | _MOE | _LAYER_MLPS | {
        "shared_expert_intermediate_size": 56}),
    ("mellum", "MellumForCausalLM", _KINDS | _MOE | _LAYER_MLPS),
    ("mimo-v2-flash", "MiMoV2FlashForCausalLM", _KINDS | _ROUTED | _LAYER_MLPS | {
        "v_head_dim": 14, "num_key_value_heads": 3}),
    ("axk1", "AXK1ForCausalLM", _MLA | _ROUTED | _LAYER_MLPS),
    ("axk2", "AXK2ForCausalLM", _MLA | _ROUTED | _INDEXER | _LAYER_MLPS | {"gated_norm_rank": 10}),
    ("solar-open", "SolarOpenForCausalLM", _ROUTED),
    ("youtu", "YoutuForCausalLM", _MLA),
    ("zaya", "ZayaForCausalLM", _MOE | {
        "num_experts_per_tok": 1, "router_hidden_size": 26}),
    ("hyperclovax", "HyperCLOVAXForCausalLM", {
        "embedding_multiplier": 1.5, "residual_multiplier": 0.7, "logits_scaling": 2.0}),
    ("dory", "DoryForCausalLM", {
        "num_hidden_layers": 4, "sliding_window": 8, "n_input_layers": 1, "n_output_layers": 1}),
    ("kolibri1", "Kolibri1ForCausalLM", _KINDS | _MOE | {"shared_expert_intermediate_size": 56}),
    ("inkling", "InklingForCausalLM", _ROUTED | {
        "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 22,
        "sliding_window_size": 8, "d_rel": 10, "rel_extent": 30}),
    ("inkling2", "Inkling2ForCausalLM", {
        "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 22,
        "sliding_window_size": 8, "d_rel": 10, "rel_extent": 30, "n_routed_experts": 8,
        "num_experts_per_tok": 3, "moe_intermediate_size": 44, "n_layers_per_attn_res_block": 1,
        "unpadded_vocab_size": VOCAB}),
    ("beam", "BeamForCausalLM", _KINDS | _MOE | _LAYER_MLPS | {"n_group": 4, "topk_group": 2}),
    ("minimax-m3", "MiniMaxM3VLForCausalLM", _LOCAL | {
        "dense_intermediate_size": 76, "shared_intermediate_size": 56, "rotary_dim": 8,
        "index_n_heads": 2, "index_head_dim": 22, "index_block_size": 4, "index_topk_blocks": 2}),
    ("blt", "BltForCausalLM", {
        "vocab_size": 140, "max_position_embeddings": 80, "patch_in_forward": False,
        "cross_attn_k": 2,
        "encoder_hash_byte_group_size": [2, 3], "encoder_hash_byte_group_vocab": 97,
        "encoder_config": {
            "vocab_size": 140, "hidden_size": 72, "hidden_size_global": 144, "num_hidden_layers": 1,
            "num_attention_heads": 6, "intermediate_size": 88, "num_key_value_heads": 6},
        "decoder_config": {
            "vocab_size": 140, "hidden_size": 72, "hidden_size_global": 144, "num_hidden_layers": 2,
            "num_attention_heads": 6, "intermediate_size": 92, "num_key_value_heads": 6},
        "global_config": {
            "hidden_size": 144, "num_attention_heads": 6, "num_hidden_layers": 2,
            "intermediate_size": 124, "num_key_value_heads": 6},
        "patcher_config": {
            "vocab_size": 140, "hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4,
            "intermediate_size": 80, "num_key_value_heads": 4}}),
    ("apertus1p5", "Apertus1p5TextForCausalLM", {}),
]

HYBRIDS: Specs = [
    ("mamba", "MambaForCausalLM", {
        "state_size": 10, "time_step_rank": 9, "conv_kernel": 4}),
    ("mamba2", "Mamba2ForCausalLM", {
        "num_heads": 12, "head_dim": 16, "state_size": 10, "n_groups": 3, "chunk_size": 8}),
    ("falcon-mamba", "FalconMambaForCausalLM", {
        "state_size": 10, "time_step_rank": 9}),
    ("falcon-h1", "FalconH1ForCausalLM", {
        "mamba_d_ssm": 160, "mamba_n_heads": 10, "mamba_d_head": 16, "mamba_n_groups": 2,
        "mamba_d_state": 14, "mamba_chunk_size": 8}),
    ("jamba", "JambaForCausalLM", {
        "num_experts": 8, "num_experts_per_tok": 3, "attn_layer_period": 2,
        "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
        "mamba_d_state": 10, "mamba_dt_rank": 9, "use_mamba_kernels": False}),
    ("zamba", "ZambaForCausalLM", {
        "num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "num_key_value_heads": 6, "mamba_d_state": 10, "n_mamba_heads": 3, "mamba_dt_rank": 9,
        "use_mamba_kernels": False}),
    ("zamba2", "Zamba2ForCausalLM", {
        "num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "num_key_value_heads": 6, "mamba_d_state": 14, "n_mamba_heads": 12, "mamba_ngroups": 3,
        "chunk_size": 8, "adapter_rank": 9, "use_mem_rope": True,
        "use_shared_attention_adapter": True, "use_mamba_kernels": False}),
    ("bamba", "BambaForCausalLM", {
        "attn_layer_indices": [1], "mamba_n_heads": 12, "mamba_d_head": 16, "mamba_n_groups": 3,
        "mamba_d_state": 14, "mamba_chunk_size": 8}),
    ("granitemoehybrid", "GraniteMoeHybridForCausalLM", _LOCAL | {
        "layer_types": ["mamba", "attention"], "mamba_n_heads": 12, "mamba_d_head": 16,
        "mamba_n_groups": 3, "mamba_d_state": 14, "mamba_chunk_size": 8,
        "shared_intermediate_size": 56}),
    ("recurrent-gemma", "RecurrentGemmaForCausalLM", {
        "lru_width": 84, "num_hidden_layers": 3, "attention_window_size": 8,
        "block_types": ["recurrent", "recurrent", "attention"]}),
    ("rwkv", "RwkvForCausalLM", {"attention_hidden_size": 84, "context_length": 50}),
    ("qwen3-next", "Qwen3NextForCausalLM", _MOE | {
        "shared_expert_intermediate_size": 56,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 14, "linear_value_head_dim": 18, "linear_num_key_heads": 3,
        "linear_num_value_heads": 6}),
    ("qwen3-5", "Qwen3_5ForCausalLM", {
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 14, "linear_value_head_dim": 18, "linear_num_key_heads": 3,
        "linear_num_value_heads": 6}),
    ("minimax", "MiniMaxForCausalLM", _LOCAL | {
        "layer_types": ["linear_attention", "full_attention"], "block_size": 8}),
    ("lfm2", "Lfm2ForCausalLM", {"layer_types": ["conv", "full_attention"]}),
    ("lfm2-moe", "Lfm2MoeForCausalLM", _MOE | {
        "layer_types": ["conv", "full_attention"], "num_dense_layers": 1}),
    ("nemotron-h", "NemotronHForCausalLM", {
        "layer_types": ["linear_attention", "moe", "full_attention", "mlp"],
        "ssm_state_size": 14, "mamba_num_heads": 12, "mamba_head_dim": 16, "n_groups": 3,
        "chunk_size": 8, "n_routed_experts": 8, "moe_intermediate_size": 44,
        "moe_shared_expert_intermediate_size": 56, "use_mamba_kernels": False}),
    ("xlstm", "xLSTMForCausalLM", {}),
    ("olmo-hybrid", "OlmoHybridForCausalLM", {}),
    ("kimi-linear", "KimiLinearForCausalLM", _MLA | _LOCAL | {
        "layer_types": ["linear_attention", "full_attention"], "moe_intermediate_size": 44,
        "mlp_layer_types": ["dense", "sparse"], "linear_head_dim": 18, "linear_num_heads": 4}),
    ("qwen3-5-moe", "Qwen3_5MoeForCausalLM", _MOE | {
        "shared_expert_intermediate_size": 56,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 14, "linear_value_head_dim": 18, "linear_num_key_heads": 3,
        "linear_num_value_heads": 6}),
    ("lara-mini", "LaraMiniForCausalLM", _MOE | {
        "shared_expert_intermediate_size": 56,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 14, "linear_value_head_dim": 18, "linear_num_key_heads": 3,
        "linear_num_value_heads": 6}),
    ("bailing-hybrid", "BailingHybridForCausalLM", _MLA | {
        "layer_types": ["linear_attention", "full_attention"], "num_local_experts": 8,
        "num_experts_per_tok": 3, "moe_intermediate_size": 44, "n_group": 4, "topk_group": 2,
        "first_k_dense_replace": 1, "n_shared_experts": 2, "num_mtp_layers": 0}),
    ("lfm3", "Lfm3ForCausalLM", {"layer_types": ["conv", "full_attention"], "conv_L_cache": 4}),
    ("qwen4-exp", "Qwen4ExpForCausalLM", _MOE | {
        "shared_expert_intermediate_size": 56, "hc_count": 3, "hc_lowrank": 14,
        "indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 22, "indexer_budget": 8,
        "indexer_compress_ratio": 4,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 14, "linear_value_head_dim": 18, "linear_num_key_heads": 3,
        "linear_num_value_heads": 6}),
]

_BART = {
    "d_model": 96, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 6,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 112, "decoder_ffn_dim": 104,
}
_T5 = {
    "d_model": 96, "d_kv": 14, "d_ff": 112, "num_layers": 2, "num_decoder_layers": 2,
    "num_heads": 6, "relative_attention_num_buckets": 10, "relative_attention_max_distance": 20,
}

SEQ2SEQ: Specs = [
    ("t5", "T5ForConditionalGeneration", _T5),
    ("t5-gated", "T5ForConditionalGeneration", _T5 | {
        "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    ("t5-encoder", "T5EncoderModel", _T5),
    ("mt5", "MT5ForConditionalGeneration", _T5),
    ("umt5", "UMT5ForConditionalGeneration", _T5),
    ("longt5", "LongT5ForConditionalGeneration", _T5 | {"local_radius": 4}),
    ("longt5-tglobal", "LongT5ForConditionalGeneration", _T5 | {
        "local_radius": 4, "encoder_attention_type": "transient-global", "global_block_size": 4}),
    ("switch-transformers", "SwitchTransformersForConditionalGeneration", _T5 | {
        "num_experts": 8, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1,
        "expert_capacity": 64}),
    ("t5gemma", "T5GemmaForConditionalGeneration", {
        "encoder": _KINDS | {"query_pre_attn_scalar": 20},
        "decoder": _KINDS | {"query_pre_attn_scalar": 20, "intermediate_size": 104},
        "vocab_size": 131}),
    ("bart", "BartForConditionalGeneration", _BART),
    ("bart-classifier", "BartForSequenceClassification", _BART),
    ("mbart", "MBartForConditionalGeneration", _BART),
    ("pegasus", "PegasusForConditionalGeneration", _BART),
    ("pegasus-x", "PegasusXForConditionalGeneration", _BART | {
        "num_global_tokens": 6, "block_size": 8}),
    ("marian", "MarianMTModel", _BART),
    ("blenderbot", "BlenderbotForConditionalGeneration", _BART),
    ("blenderbot-small", "BlenderbotSmallForConditionalGeneration", _BART),
    ("m2m-100", "M2M100ForConditionalGeneration", _BART),
    ("nllb-moe", "NllbMoeForConditionalGeneration", _BART | {
        "num_experts": 8, "encoder_sparse_step": 2, "decoder_sparse_step": 2,
        "expert_capacity": 64}),
    ("fsmt", "FSMTForConditionalGeneration", _BART | {
        "langs": ["en", "de"], "src_vocab_size": 131, "tgt_vocab_size": 149}),
    ("led", "LEDForConditionalGeneration", _BART | {
        "attention_window": [4, 8], "max_encoder_position_embeddings": 50,
        "max_decoder_position_embeddings": 40}),
    ("prophetnet", "ProphetNetForConditionalGeneration", {
        "hidden_size": 96, "num_encoder_layers": 2, "num_decoder_layers": 2,
        "num_encoder_attention_heads": 6, "num_decoder_attention_heads": 4,
        "encoder_ffn_dim": 112, "decoder_ffn_dim": 104, "ngram": 2, "num_buckets": 10,
        "relative_max_distance": 20}),
    ("bigbird-pegasus", "BigBirdPegasusForConditionalGeneration", _BART | {
        "attention_type": "original_full"}),
    ("encoder-decoder", "EncoderDecoderModel", {
        "encoder": {"model_type": "bert"},
        "decoder": {
            "model_type": "bert", "hidden_size": 96, "intermediate_size": 104, "is_decoder": True,
            "add_cross_attention": True}}),
    ("encoder-decoder-gpt2", "EncoderDecoderModel", {
        "encoder": {"model_type": "roberta"},
        "decoder": {
            "model_type": "gpt2", "n_embd": 80, "n_head": 4, "n_inner": 104, "n_layer": 2,
            "is_decoder": True, "add_cross_attention": True}}),
    ("t5gemma2", "T5Gemma2ForConditionalGeneration", {
        "encoder": {
            "text_config": _KINDS | {"query_pre_attn_scalar": 20},
            "vision_config": {
                "model_type": "siglip_vision_model", "hidden_size": 72, "intermediate_size": 108,
                "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32,
                "patch_size": 8, "vision_use_head": False},
            "mm_tokens_per_image": 4, "image_token_index": 130, "boi_token_index": 129,
            "eoi_token_index": 128},
        "decoder": _KINDS | {"query_pre_attn_scalar": 20}, "image_token_index": 130,
        "eoi_token_index": 128, "vocab_size": 131}),
    ("plbart", "PLBartForConditionalGeneration", _BART),
    ("mvp", "MvpForConditionalGeneration", _BART),
]


def ended_inputs(model: PreTrainedModel) -> dict[str, Any]:
    """Tokens that close with the end token, whose state the classifier reads."""
    ids = tokens()
    ids[:, -1] = model.config.eos_token_id
    return {"input_ids": ids}


_SPECIAL_INPUTS = {"t5-encoder": encoder_inputs, "bart-classifier": ended_inputs}

for _family, _specs, _inputs in (
    ("transformers-text-encoder", ENCODERS, encoder_inputs),
    ("transformers-text-encoder", SPARSE_ENCODERS, long_inputs),
    ("transformers-text-decoder", DECODERS, decoder_inputs),
    ("transformers-text-hybrid", HYBRIDS, decoder_inputs),
    ("transformers-text-seq2seq", SEQ2SEQ, seq2seq_inputs),
):
    for _name, _class, _own in _specs:
        add(_family, _name, _class, TEXT, _own, _SPECIAL_INPUTS.get(_name, _inputs))
