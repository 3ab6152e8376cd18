import torch
from torch import nn

from sentei.hooks import Hook, Stop
from sentei.recovery.train import Recipe, train


def toy():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 4, generator=generator)
    return x, (x[:, 0] > 0).long()


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


RECIPE = Recipe(epochs=3, lr=0.1, batch_size=16, momentum=0.0)


def test_a_training_cut_in_two_gives_the_same_bits():
    whole, parts = net(), net()
    train(whole, toy(), RECIPE)
    first = train(parts, toy(), RECIPE, stop=5)
    second = train(parts, toy(), RECIPE, start=5)
    assert (first.steps, second.steps) == (5, 7)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True)
    )


def test_hooks_see_every_step_and_may_skip_one_or_stop():
    calls = []

    class Watch(Hook):
        def penalty(self):
            calls.append("penalty")
            return self.model[0].weight.square().sum()

        def before_step(self):
            assert self.model[0].weight.grad is not None
            calls.append("before")
            return self.step != 0

        def after_step(self):
            super().after_step()
            calls.append("after")
            if self.step == 2:
                raise Stop

        def finish(self):
            calls.append("finish")

    model = net()
    before = [p.detach().clone() for p in model.parameters()]
    log = train(model, toy(), RECIPE, hooks=[Watch()])
    assert calls == ["penalty", "before", "after"] * 2 + ["finish"]
    assert log.stopped and log.steps == 2
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
