from sentei.graph.errors import PruneError, closest
from sentei.hooks import Hook
from sentei.methods.base import method
from sentei.methods.lottery.rounds import path, search, step_of
from sentei.methods.setting import Setting
from sentei.recovery.adversarial import Adversarial
from sentei.structures import Masks

__all__ = ["lth_generative"]


@method(
    "lth-generative",
    title="Winning Lottery Tickets in Deep Generative Models",
    authors="Kalibhat, Balaji, Feizi",
    venue="AAAI",
    year=2021,
    arxiv="2010.02350",
    family="lottery",
    structure="weight",
    timing="after",
    starts="initial",
    needs=("data", "training"),
    card="C8",
    lineage=("lth-rewind",),
)
def lth_generative(
    setting: Setting,
    *,
    parts: tuple[str, ...] = (),
    game: Adversarial | None = None,
    to: float = 0.0,
    rate: float = 0.2,
    rounds: int | None = None,
) -> Masks:
    """Tickets of autoencoders and of adversarial pairs: iterative pruning with a generative loss.

    As lth-rewind. An autoencoder is pruned as one network; of a generator and a discriminator each
    has a ranking of its own, and all parameters and buffers of both (running statistics, vectors
    of spectral norms) are rewound together, with fresh optimisers.

    Args:
        parts: submodules that are pruned, each ranked by itself, such as
            ("generator", "discriminator"); what lies outside (a copy with averaged weights, a
            network that stays dense) is rewound and never ranked. The whole model by default.
        game: adversarial training; the setting's own training by default, for which an
            autoencoder's data is (x, x) and its loss a reconstruction's.
        to, rate, rounds: as for lth-rewind.

    Source: section 3. Separate thresholds of the two networks are from memory.
    """
    weights = setting.weights
    inside = {p: [n for n in weights if n.startswith(f"{p}.")] for p in parts}
    for part, found in inside.items():
        if not found:
            known = [n for n, _ in setting.model.named_children()]
            raise PruneError(f"no weights in a part {part!r}; {closest(part, known)}")
    groups = {n: p for p, found in inside.items() for n in found} or dict.fromkeys(weights, "")
    shapes = {n: tuple(weights[n].shape) for n in groups}

    def play(own: Setting, hooks: list[Hook], masks: Masks | None, start: int) -> None:
        assert game is not None
        log = game.train(
            own.model, own.data, own.recipe, hooks=hooks, masks=masks, seed=1000 + own.seed,
            start=start,
        )  # fmt: skip
        own.logs.append(log)

    return search(
        setting,
        path(shapes, setting.keep, rate=rate, rounds=rounds),
        scope=groups,
        step=step_of(setting, to),
        names=list(groups),
        trainer=None if game is None else play,
    ).masks
