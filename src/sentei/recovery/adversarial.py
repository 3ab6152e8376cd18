"""Train a generator against a discriminator."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from sentei.batches import Data, batches, steps
from sentei.hooks.base import Hook, Hooks, Stop
from sentei.hooks.mask import MaskHook
from sentei.recovery.train import Log, Recipe, TrainingError
from sentei.structures import Masks

__all__ = ["Adversarial"]


@dataclass(frozen=True)
class Adversarial:
    """The non-saturating game of two submodules of one model, each with an Adam of its own.

    discriminator: minimise softplus(-D(x)) + softplus(D(G(z)));
    generator: minimise softplus(-D(G(z))), z ~ N(0, 1).

    generator, discriminator: names of the submodules. latent: width of z.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, section 3.
    """

    latent: int
    generator: str = "generator"
    discriminator: str = "discriminator"
    betas: tuple[float, float] = (0.5, 0.999)

    def train(
        self,
        model: nn.Module,
        data: Data,
        recipe: Recipe,
        *,
        hooks: Iterable[Hook] = (),
        masks: Masks | None = None,
        seed: int = 0,
        start: int = 0,
    ) -> Log:
        """Train in place; hooks see a step of both as one step. Numbers depend on seed and step.

        The learning rate is constant. `data` holds real examples, as `(x, anything)` or batches
        of it. What `masks` drop is zero whenever either network is used.

        Raises:
            TrainingError: a loss is no longer a number.
        """
        net, judge = model.get_submodule(self.generator), model.get_submodule(self.discriminator)
        one, two = (
            torch.optim.Adam(part.parameters(), recipe.lr, self.betas) for part in (net, judge)
        )
        held = [MaskHook(masks)] if masks is not None else []
        hook, began, taken = Hooks([*hooks, *held]), time.perf_counter(), 0
        theirs = None
        if masks is not None:
            theirs = masks.only([n for n in masks if n.startswith(f"{self.discriminator}.")])
        an_epoch = steps(data, recipe.batch_size)
        losses: list[float] = []
        device = next(model.parameters()).device
        flags = {m: m.training for m in model.modules()}
        model.train()
        try:
            hook.start(model, one, max(an_epoch * recipe.epochs - start, 0))
            for epoch in range(start // an_epoch, recipe.epochs):
                order = _generator(seed, epoch, "order")
                summed = 0.0
                for step, batch in enumerate(batches(data, recipe.batch_size, order)):
                    here = epoch * an_epoch + step
                    if here < start:
                        continue
                    real = batch[0].to(device)
                    noise = _generator(seed, here, "noise")
                    z = torch.randn(len(real), self.latent, generator=noise).to(device)
                    fake = net(z)
                    loss = F.softplus(-judge(real)).mean() + F.softplus(judge(fake.detach())).mean()
                    two.zero_grad(set_to_none=True)
                    loss.backward()
                    two.step()
                    if theirs is not None:
                        theirs.apply_(model)  # the generator must not play against other weights
                    other = F.softplus(-judge(fake)).mean()
                    one.zero_grad(set_to_none=True)
                    other.backward()
                    if hook.before_step():
                        one.step()
                    if not torch.isfinite(loss + other):
                        raise TrainingError(f"the losses are {loss.item()} and {other.item()}")
                    summed += loss.item() + other.item()
                    taken += 1
                    hook.after_step()
                losses.append(summed / an_epoch)
        except Stop:
            pass
        finally:
            for module, flag in flags.items():
                module.training = flag
            model.zero_grad(set_to_none=True)
        hook.finish()
        return Log(taken, tuple(losses), time.perf_counter() - began)


def _generator(seed: int, number: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(f"{seed}:{number}:{purpose}".encode()))
