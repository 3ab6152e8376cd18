"""Numbers in the code of a model are widths, too, and follow."""

import copy
import math
import pickle
import types
from math import sqrt
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import sentei
from sentei.graph.errors import PruneError
from sentei.graph.literals import originally, planted, read_literal, write_literal, written
from sentei.storage.recipe import parse


class LeNet(nn.Module):
    """As in PyTorch's own tutorial."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.pool = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2)
        self.fc1, self.fc2 = nn.Linear(16 * 5 * 5, 20), nn.Linear(20, 10)

    def forward(self, x):
        x = self.pool(self.conv1(x).relu())
        x = self.pool(self.conv2(x).relu())
        return self.fc2(self.fc1(x.view(-1, 16 * 5 * 5)).relu())


class Attention(nn.Module):
    """Equal numbers in other roles; heads of a method of its own, with a default."""

    def __init__(self):
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)

    def heads(self, x, n=4):
        return x.reshape(*x.shape[:2], n, 4).transpose(1, 2)

    def forward(self, x):
        q, k, v = map(self.heads, self.qkv(self.norm(x)).split((16, 16, 16), dim=-1))
        weights = (q @ k.mT / 4**0.5).softmax(-1)
        return x + self.out((weights @ v).transpose(1, 2).reshape(x.shape[0], -1, 16))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(5, 16), nn.Linear(16, 3)
        self.layers = nn.ModuleList([Attention(), Attention()])

    def forward(self, x):
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Halves(nn.Module):
    """In a comprehension and a slice, compared with a shape, and as a divisor that stays."""

    def __init__(self):
        super().__init__()
        self.inside, self.outside = nn.Linear(5, 12), nn.Linear(12, 3)

    def forward(self, x):
        x = self.inside(x)
        a, b = x[:, :6], x[:, 6:]
        assert a.shape[1] == x.shape[1] // 2
        both = [y.reshape(-1, 2, 3) for y in (a * b.sigmoid(), b)]
        return self.outside(torch.cat(both, dim=1).flatten(1))


class Checks(nn.Module):
    """Widths are compared with numbers: which way the code goes stays what it was."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.c, self.head = nn.Conv2d(16, 24, 3), nn.Linear(24, 5)

    def forward(self, x):
        x = self.a(x).relu()
        if x.shape[1] == 16:
            x = x + self.b(x)
        y = self.c(x)
        if y.size(1) != 24:
            raise ValueError("want 24 channels")
        return self.head(y.mean((2, 3)))


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Nameless(nn.Module):
    """In functions without a name that modules hold, and in a static method."""

    def __init__(self):
        super().__init__()
        factor = 0.5
        self.net = nn.Sequential(
            nn.Linear(5, 8 * 2 * 2),
            Lambda(lambda x: x.view(-1, 8, 2, 2)),
            nn.Conv2d(8, 6, 1),
            Lambda(lambda x: x.reshape(-1, 6, 4).mean(-1)),
            nn.Linear(6, 12),
            Lambda(lambda x: factor * x.view(-1, 3, 4)),
        )
        self.head = nn.Linear(4, 10)
        self.last = nn.Linear(30, 2)

    @staticmethod
    def flat(x):
        return x.reshape(-1, 3 * 10)

    def forward(self, x):
        return self.last(self.flat(self.head(self.net(x))).relu())


NETWORKS = {
    "nameless": (Nameless, (4, 5)),
    "lenet": (LeNet, (2, 3, 32, 32)),
    "encoder": (Encoder, (2, 7, 5)),
    "halves": (Halves, (4, 5)),
    "checks": (Checks, (2, 3, 8, 8)),
}


def build(name):
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    return make().double().eval(), torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("name", NETWORKS)
def test_numbers_follow_and_stay_with_copies_and_files(name, tmp_path):
    model, x = build(name)
    groups = sentei.analyze(model, x)
    assert not any("passes the number" in g.pinned for g in groups.pinned.values())
    result = sentei.prune(model, x, target=sentei.Target(width=0.5))
    assert result.verification.passed and result.verification.conclusive
    assert any(key.in_code for key in result.surgery.attributes)
    y = model(x)
    copies = [copy.deepcopy(model)]
    if name != "nameless":  # what has no name cannot be pickled
        copies.append(pickle.loads(pickle.dumps(model)))
    for again in copies:
        assert torch.equal(again(x), y)
        kinds = zip(map(type, again.modules()), map(type, model.modules()), strict=True)
        assert all(originally(a) is originally(b) for a, b in kinds)
    assert torch.equal(copy.copy(model)(x), y)
    model.train()(x).sum().backward()
    model.eval()
    first = sentei.save(result, tmp_path / "first")
    loaded = sentei.load(first, build(name)[0])
    assert torch.equal(loaded(x), y)
    second = sentei.prune(loaded, x, target=sentei.Target(width=0.6))
    assert second.verification.passed
    again = sentei.load(sentei.save(second, tmp_path / "second"), build(name)[0])
    assert torch.equal(again(x), loaded(x))


def test_the_class_is_the_authors_but_for_the_number():
    model, x = build("lenet")
    sentei.prune(model, x, target=sentei.Target(width=0.5))
    assert isinstance(model, LeNet) and type(model).__name__ == "LeNet"
    assert written(type(model), "forward") == [-1, 200]
    assert type(type(model)()) is LeNet  # calling it builds the network as it was written
    assert written(LeNet, "forward") == [-1, 400]
    fresh, _ = build("lenet")
    assert fresh(x).shape == (2, 10)


class Demanding(LeNet):
    """Who inherits from it has to say something."""

    __slots__ = ("note",)

    def __init_subclass__(cls, *, note):
        raise AssertionError("nobody inherits from it here")


def test_the_double_is_no_heir_to_the_class():
    torch.manual_seed(0)
    model, x = Demanding().eval(), torch.randn(2, 3, 32, 32)
    sentei.prune(model, x, target=sentei.Target(width=0.5))
    assert written(type(model), "forward") == [-1, 200]
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    # An empty object, as DataParallel makes its replicas from, is of the same class.
    assert type(model.__new__(type(model))) is type(model)


def test_what_reads_the_source_is_told_nothing_rather_than_the_old_number():
    model, x = build("lenet")
    sentei.prune(model, x, target=sentei.Target(width=0.5))
    with pytest.raises(OSError, match="source"):
        torch.jit.script(model)
    torch.testing.assert_close(torch.jit.trace(model, (x,))(x), model(x))


def test_each_use_of_a_number_is_one_of_its_own():
    model, x = build("encoder")
    surgery = sentei.delete_units(model, "layers.0.qkv/0", [0], x).surgery
    assert {str(key): value for key, value in surgery.attributes.items()} == {
        "the number 4 in layers.0.heads() (use 2)": 3,  # the heads, a default; not their width
        "the number 16 in layers.0.forward()": 12,
        "the number 16 in layers.0.forward() (use 2)": 12,
        "the number 16 in layers.0.forward() (use 3)": 12,
        "the number 16 in layers.0.forward() (use 4)": 12,
    }
    assert written(type(model.layers[0]), "heads") == [2, 4, 1, 2, 3]
    assert type(model.layers[1]) is Attention


def test_a_rollback_takes_the_class_back():
    model, x = build("lenet")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PruneError):
        sentei.prune(model, x, target=sentei.Target(macs=1e-9))
    assert type(model) is LeNet and model.state_dict().keys() == before.keys()


WIDTH, HEADS = 12, 300


class Named(nn.Module):
    """Numbers that have a name in their file; not all of them are widths."""

    def __init__(self):
        super().__init__()
        self.inside, self.outside = nn.Linear(5, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x):
        state = torch.zeros(len(x), WIDTH, dtype=x.dtype)
        for part in [self.inside(x).reshape(-1, WIDTH) for _ in range(2)]:
            state = torch.tanh(state + part)
        return self.outside(state) * max(HEADS, 2)


def test_numbers_with_a_name_in_their_file_follow(tmp_path):
    torch.manual_seed(0)
    model, x = Named().double().eval(), torch.randn(4, 5, dtype=torch.float64)
    result = sentei.prune(model, x, target=sentei.Target(width=0.5))
    assert result.verification.passed and model.inside.out_features == 6 and WIDTH == 12
    assert Named()(x.float()).shape == (4, 3)
    again = sentei.load(sentei.save(result, tmp_path / "a"), Named().double().eval())
    assert torch.equal(again(x), model(x))
    torch.testing.assert_close(torch.compile(model, backend="eager")(x), model(x))


class Elsewhere(nn.Module):
    """The number is in a function that is no method."""

    def __init__(self):
        super().__init__()
        self.inside, self.outside = nn.Linear(5, 12), nn.Linear(12, 3)

    def forward(self, x):
        return self.outside(_fold(self.inside(x)).flatten(1))


def _fold(x):
    return x.view(-1, 3, 4)


def test_a_number_in_a_free_function_stays():
    groups = sentei.analyze(Elsewhere(), torch.randn(2, 5))
    assert "the model passes the number 3 to view" in {g.pinned for g in groups.pinned.values()}


class Deep(LeNet):
    def __deepcopy__(self, memo):
        return Deep()


class Shallow(LeNet):
    def __copy__(self):
        return Shallow()


class Reduced(LeNet):
    def __reduce__(self):
        return Reduced, (), vars(self)


class Listing(type):
    """A metaclass that keeps a list of its classes."""

    made: ClassVar = []

    def __init__(cls, *args):
        super().__init__(*args)
        Listing.made.append(cls)


class Listed(LeNet, metaclass=Listing):
    pass


@pytest.mark.parametrize("kind", [Deep, Shallow, Reduced, Listed])
def test_a_class_that_is_made_or_copied_in_its_own_way_keeps_its_numbers(kind):
    groups = sentei.analyze(kind(), torch.randn(2, 3, 32, 32))
    assert groups.pinned["conv2"].pinned == "the model passes the number 400 to view"


class Twice(nn.Module):
    """One module, whose number is two widths."""

    class Fold(nn.Module):
        def forward(self, x):
            return x.reshape(len(x), 6)

    def __init__(self):
        super().__init__()
        self.a, self.b, self.fold = nn.Linear(5, 6), nn.Linear(5, 6), Twice.Fold()
        self.c, self.d = nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x):
        return self.c(self.fold(self.a(x))) + self.d(self.fold(self.b(x)))


def test_widths_that_one_number_stands_for_are_tied():
    torch.manual_seed(0)
    model, x = Twice().eval(), torch.randn(3, 5)
    groups = sentei.analyze(model, x)
    assert groups["a"].tied == ("b",)
    assert sentei.prune(model, x, target=sentei.Target(width=0.5)).verification.passed


def test_numbers_that_are_not_there():
    model, _ = build("lenet")
    assert read_literal(model, ("forward()", 400, 0)) == 400
    for path in [("forward()", 400, 1), ("forward()", 401, 0), ("_call_impl()", 1, 0)]:
        with pytest.raises(LookupError, match="has the number"):
            write_literal(model, path, 3)
    assert type(model) is LeNet


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("400", "401", "has the number 401 0 times"),
        ("forward()", "train()", "has the number 400 0 times"),
        ("400", '"x"', "is no number"),
    ],
)
def test_edits_of_numbers_that_the_model_does_not_have(tmp_path, old, new, word):
    model, x = build("lenet")
    folder = sentei.save(sentei.prune(model, x, target=sentei.Target(width=0.5)), tmp_path / "a")
    path = folder / "sentei.json"
    text = path.read_text()
    place = text.index('"forward()"')
    path.write_text(text[:place] + text[place:].replace(old, new, 1))
    assert parse(folder)
    fresh, _ = build("lenet")
    with pytest.raises(PruneError, match=word):
        sentei.load(folder, fresh)
    assert type(fresh) is LeNet and fresh.fc1.in_features == 400


def test_compiled_and_exported_networks_have_the_new_numbers():
    model, x = build("halves")
    sentei.prune(model, x, target=sentei.Target(width=0.5))
    program = torch.export.export(model, (x,))
    torch.testing.assert_close(program.module()(x), model(x))
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(compiled(x), model(x))


def test_functions_with_too_many_constants_keep_their_numbers():
    numbers = "+".join(f"x[{n}:]" for n in range(300))
    space = {}
    exec(f"def forward(self, x):\n    return {numbers}", space)
    kind = type("Long", (nn.Module,), {"forward": space["forward"]})
    assert len(written(kind, "forward")) == 300
    module = kind()
    assert isinstance(space["forward"], types.FunctionType)
    assert planted(module, frozenset({299}), lambda path, number: number + 1) == {}


# -- numbers that are converted -------------------------------------------------------------------
def head_width(x, heads):
    return int(x.shape[-1] / heads)


class Converts(nn.Module):
    """Widths as floats and back, in methods, in a function of this file and through NumPy."""

    def __init__(self, how):
        super().__init__()
        self.how, self.heads = how, 2
        self.up, self.down = nn.Linear(5, 24), nn.Linear(12, 12)
        self.q, self.k, self.head = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x):
        half = int(self.up.out_features / 2)
        u = self.up(x)
        x = self.down(u[..., :half] * u[..., half:].sigmoid()).relu()
        shape = *x.shape[:2], self.heads, head_width(x, self.heads)
        q, k, v = (y.reshape(shape).transpose(1, 2) for y in (self.q(x), self.k(x), x))
        scores = q @ k.mT / self.how(float(q.shape[-1]))
        x = (scores.softmax(-1) @ v).transpose(1, 2)
        return self.head(x.reshape(-1, int(np.prod(x.shape[2:]))))


ROOTS = {
    "np.sqrt": lambda width: np.sqrt(width),
    "power": lambda width: width**0.5,
    "from math": lambda width: 2 * sqrt(width) / 2,
    "math.pow": lambda width: math.pow(width, 0.5),
    "tensor": lambda width: torch.tensor(width).sqrt(),
    "tensors": lambda width: torch.tensor([width]).sqrt(),
}


@pytest.mark.parametrize("how", ROOTS)
def test_conversions_remember_where_a_number_came_from(how):
    torch.manual_seed(0)
    model, x = Converts(ROOTS[how]).double(), torch.randn(2, 4, 5, dtype=torch.float64)
    before = head_width, math.sqrt, np.prod, sqrt
    groups = sentei.analyze(model, x)
    assert (head_width, math.sqrt, np.prod, sqrt) == before
    assert "int (followed)" not in globals() and "forward" not in vars(model)
    assert {"up", "down/1", "q/1"} <= set(groups)
    result = sentei.prune(model, x, target=sentei.Target(width=0.5), granularity="width")
    assert result.verification.passed and not result.held
    assert (model.up.out_features, model.q.out_features) == (12, 6)
    model(torch.randn(3, 7, 5, dtype=torch.float64)).sum().backward()


class Share(nn.Module):
    """A quarter of the channels, by a factor that is no whole number, goes another way."""

    def __init__(self):
        super().__init__()
        self.share = 0.25
        self.stem, self.part, self.head = nn.Linear(5, 16), nn.Linear(4, 4), nn.Linear(16, 3)

    def forward(self, x):
        x = self.stem(x)
        some = int(x.shape[1] * self.share)
        a, b = x.split([some, x.shape[1] - some], dim=1)
        return self.head(torch.cat([self.part(a), b.relu()], dim=1))


def test_a_share_of_a_width_stays_that_share():
    torch.manual_seed(0)
    model, x = Share().double(), torch.randn(3, 5, dtype=torch.float64)
    result = sentei.prune(model, x, target=sentei.Target(width=0.5))
    assert result.verification.passed and not result.held
    assert (model.stem.out_features, model.part.in_features) == (8, 2)
