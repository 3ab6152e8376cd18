"""generate() of pruned language models: with a cache of keys and values as without."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

import sentei
from sentei import Target
from tests.ecosystem.pruned import llama


def gpt2():
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=64, n_embd=32, n_head=4, n_layer=2, n_positions=64)
    )


def t5():
    config = T5Config(
        vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        decoder_start_token_id=0,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


@pytest.mark.parametrize("granularity", ["blocks", "width"])
@pytest.mark.parametrize("build", [llama, gpt2, t5])
def test_with_and_without_a_cache(build, granularity):
    torch.manual_seed(0)
    model = build().eval()
    ids = torch.randint(4, 64, (2, 7))
    call = {"input_ids": ids} | ({"decoder_input_ids": ids} if build is t5 else {})
    sentei.prune(model, call, target=Target(params=0.75), granularity=granularity)
    with torch.no_grad():
        cached, plain = (
            model.generate(
                ids, max_new_tokens=12, min_new_tokens=12, do_sample=False, use_cache=cache,
                pad_token_id=0, output_logits=True, return_dict_in_generate=True,
            )
            for cache in (True, False)
        )  # fmt: skip
    assert torch.equal(cached.sequences, plain.sequences)
    assert cached.past_key_values is not None
    for a, b in zip(cached.logits, plain.logits, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
