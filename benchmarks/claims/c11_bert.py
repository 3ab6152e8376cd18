import copy
import os

import torch
from torch import nn

from benchmarks.claims import claim
from sentei.methods import METHODS, Setting, apply
from sentei.methods.lottery.controls import random_masks, retrain
from sentei.recovery.train import Recipe, train
from sentei.structures import Masks

os.environ.setdefault("HF_HUB_OFFLINE", "1")

WORDS, LENGTH, SOURCES = 24, 20, 4
MASK, START = WORDS, WORDS + 1
PRETRAIN = Recipe(epochs=20, lr=4e-3, optimizer="adamw", weight_decay=0.01)
# Predicting masked words does not train the pooler: here it belongs to the task's head. At its
# initial size of 0.02 a ranking over all layers would take the whole of it first.
HEAD = ("classifier", "bert.pooler*")
TUNE = Recipe(epochs=10, lr=1e-3, optimizer="adamw", weight_decay=0.01, schedule="linear")


def texts(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Texts of four Markov sources over the same words, each after a start token."""
    tables = torch.softmax(
        4.0 * torch.randn(SOURCES, WORDS, WORDS, generator=torch.Generator().manual_seed(7)), -1
    )
    g = torch.Generator().manual_seed(seed)
    source = torch.randint(SOURCES, (count,), generator=g)
    words = [torch.randint(WORDS, (count,), generator=g)]
    for _ in range(LENGTH - 1):
        words.append(torch.multinomial(tables[source, words[-1]], 1, generator=g)[:, 0])
    return torch.cat([torch.full((count, 1), START), torch.stack(words, 1)], 1), source


def network(kind: str, seed: int) -> nn.Module:
    from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

    config = BertConfig(
        vocab_size=WORDS + 2, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=LENGTH + 1, num_labels=SOURCES,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return (BertForMaskedLM if kind == "mlm" else BertForSequenceClassification)(config)


def pretrained(seed: int) -> nn.Module:
    """A classifier whose encoder has learned to predict masked words of 2,048 texts."""
    ids, _ = texts(2048, 100 + seed)
    g = torch.Generator().manual_seed(200 + seed)
    batches = []
    for part in ids.split(64):
        hidden = torch.rand(part.shape, generator=g) < 0.15
        hidden[:, 0] = False
        labels = part.masked_fill(~hidden, -100)
        batches.append({"input_ids": part.masked_fill(hidden, MASK), "labels": labels})
    speaker = network("mlm", seed)
    train(speaker, batches, PRETRAIN, loss=None, seed=seed)
    model = network("classifier", seed)
    missing = model.bert.load_state_dict(speaker.bert.state_dict(), strict=False)
    assert all("pooler" in n for n in missing.missing_keys) and not missing.unexpected_keys
    return model


def accuracy(model: nn.Module) -> float:
    ids, source = texts(1000, 999)
    with torch.no_grad():
        return 100 * (model.eval()(input_ids=ids).logits.argmax(1) == source).float().mean().item()


@claim(
    "C11",
    statement="A pre-trained transformer has tickets at its pre-trained weights: neither other "
    "weights nor other masks do as well",
    paper="Chen et al. 2020: matching subnetworks of BERT at 40-90 % sparsity (abstract)",
    checks={
        "at 50 % at least 3 points above other initial weights": lambda f: (
            f["ticket 0.5"] >= f["random weights, same mask 0.5"] + 3
        ),
        "at 50 % at least 5 points above a random mask": lambda f: (
            f["ticket 0.5"] >= f["random mask 0.5"] + 5
        ),
    },
)
def c11(seed: int) -> dict[str, float]:
    model = pretrained(seed)
    ids, source = texts(256, 300 + seed)
    data = [
        {"input_ids": i, "labels": s} for i, s in zip(ids.split(32), source.split(32), strict=True)
    ]
    fresh = network("classifier", 1000 + seed).state_dict()
    start = copy.deepcopy(model.state_dict())
    figures = {}
    for density in (0.7, 0.5, 0.3):
        given = Setting(
            copy.deepcopy(model), data, loss=None, density=density, recipe=TUNE, tuning=TUNE,
            seed=seed,
        )  # fmt: skip
        masks = apply(METHODS["bert-tickets"], given, head=HEAD).masks
        figures[f"ticket {density}"] = accuracy(given.model)
        inner = masks.only([n for n in masks if ".encoder." in n])
        for name, (chosen, values) in {
            "random weights, same mask": (inner, fresh),
            "random mask": (random_masks(inner, seed), start),
        }.items():
            figures[f"{name} {density}"] = accuracy(retrain(given, chosen, values))
    full = Masks.full(given.weights)
    figures["dense"] = accuracy(retrain(given, full, start))
    figures["dense, never pre-trained"] = accuracy(retrain(given, full, fresh))
    return figures
