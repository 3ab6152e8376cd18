"""C11: tickets from pre-trained weights."""

import pytest
import torch

from sentei.graph.errors import PruneError
from sentei.methods import METHODS, apply
from sentei.methods.lottery.bert_tickets import linear_path
from sentei.recovery.train import Recipe


def test_every_round_drops_a_tenth_of_the_whole():
    shares = [d["w"] for d in linear_path(["w"], 0.1, 0.1)]
    assert shares == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    left = [1.0, *shares]
    for r, (one, two) in enumerate(zip(left, shares, strict=False)):
        assert (one - two) / one == pytest.approx(1 / (10 - r))
    assert linear_path(["w"], 1.0, 0.1) == []


def test_rounds_start_from_the_pretrained_values(make):
    given = make(0.5)
    given.train()  # pre-training
    given.began.clear()
    pretrained = given.state()
    outcome = apply(METHODS["bert-tickets"], given)
    assert len(given.began) == 6
    for r, (state, how) in enumerate(given.began):
        masks = how["masks"]
        for name, values in state.items():
            want = pretrained[name].clone()
            if masks is not None and name in masks:
                want[~masks[name]] = 0
            assert torch.equal(values, want)
        if masks is not None:
            assert "6.weight" not in masks
            assert masks.kept == round((1 - 0.1 * r) * masks.total)
    head = outcome.masks["6.weight"]
    assert head.all()
    assert outcome.kept == 288 + head.numel()


def test_what_a_bert_prunes(make):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=8, num_labels=3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    ids = torch.randint(20, (16, 8))
    data = [{"input_ids": ids, "labels": ids[:, 0] % 3}] * 2
    tuning = Recipe(epochs=1, lr=1e-3, optimizer="adam")
    given = make(0.7, model=model, data=[(i, i) for i in range(2)], tuning=tuning)
    given.data, given.loss = data, None
    masks = apply(METHODS["bert-tickets"], given, head="classifier").masks
    pruned = [n for n, m in masks.items() if not m.all()]
    assert "classifier.weight" in masks and masks["classifier.weight"].all()
    assert "bert.pooler.dense.weight" in masks
    assert not any("embeddings" in n or "LayerNorm" in n for n in masks)
    kinds = {n.split(".layer.")[1][2:] for n in pruned if ".layer." in n}
    assert len(kinds) == 6  # query, key, value, attention output, intermediate, output
    inner = masks.only([n for n in masks if n != "classifier.weight"])
    assert inner.kept == round(0.7 * inner.total)


def test_mistakes_speak(make):
    with pytest.raises(PruneError, match="no weight of a head"):
        apply(METHODS["bert-tickets"], make(), head="classifier")
    with pytest.raises(PruneError, match="nothing is left to prune"):
        apply(METHODS["bert-tickets"], make(), head="*")
