"""LoRA on pruned Hugging Face models."""

import pytest
import torch

from tests.ecosystem.pruned import pruned_llama

peft = pytest.importorskip("peft")


# peft 0.21 asks transformers 5 for a property that the latter renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_lora(tmp_path):
    model, ids = pruned_llama()
    frozen = {n: p.clone() for n, p in model.named_parameters()}
    config = peft.LoraConfig(
        r=4, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"],
        task_type="CAUSAL_LM",
    )  # fmt: skip
    tuned = peft.get_peft_model(model, config)
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], 1e-2)
    losses = []
    for _ in range(4):
        loss = tuned(input_ids=ids, labels=ids).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    tuned.save_pretrained(tmp_path / "adapter")
    tuned.eval()
    with torch.no_grad():
        want = tuned(input_ids=ids).logits
    again, _ = pruned_llama()
    with torch.no_grad():
        loaded = peft.PeftModel.from_pretrained(again, tmp_path / "adapter").eval()
        torch.testing.assert_close(loaded(input_ids=ids).logits, want)
        merged = tuned.merge_and_unload()
        torch.testing.assert_close(merged(input_ids=ids).logits, want)
    name = "model.embed_tokens.weight"
    assert torch.equal(merged.get_parameter(name), frozen[name])
