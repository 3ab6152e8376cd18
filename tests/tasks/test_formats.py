"""Data in its true formats, made here, tiny; and what is said when it is not what it should be."""

import pickle
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sentei.graph.errors import PruneError
from sentei.tasks import Dataset, Metric, Wanted, evaluate, open_data, rehearse, task
from sentei.tasks.dataset import METRICS

X, Y = torch.zeros(6, 3), torch.arange(6) % 2


def picture(path, value=0, size=12):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size + 2), (value, 40, 200)).save(path)


def image_folder(root, parts=("train", "val"), classes=("cat", "dog"), n=4):
    for part in parts:
        for c, name in enumerate(classes):
            for i in range(n):
                picture(root / part / name / f"{i}.png", 80 * c + i)
    return root


def cifar(root, n=6):
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        batch = {
            b"data": rng.integers(0, 256, (n, 3072), dtype=np.uint8),
            b"labels": [i % 10 for i in range(n)],
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return root


def mnist(root, n=12):
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for half in ("train", "t10k"):
        images = np.arange(n * 28 * 28, dtype=np.uint8)
        (folder / f"{half}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 0x803, n, 28, 28) + images.tobytes()
        )
        labels = np.arange(n, dtype=np.uint8) % 10
        (folder / f"{half}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 0x801, n) + labels.tobytes()
        )
    return root


def reviews(root, n=20):
    datasets = pytest.importorskip("datasets")
    rows = {
        "text": [f"film {i} was {'fine' if i % 2 else 'dull'}" for i in range(n)],
        "label": [i % 2 for i in range(n)],
    }
    datasets.disable_progress_bar()
    datasets.Dataset.from_dict(rows).save_to_disk(str(root))
    return root


def test_digits_in_the_shape_the_model_wants():
    data = open_data("digits", Wanted(size=(16, 16), channels=3))
    assert data.example.shape == (1, 3, 16, 16) and data.counts == (1212, 135, 450)


def test_the_built_in_tasks_are_data(tmp_path):
    data = open_data("shapes")
    assert data.counts[1] > 0 and data.metric.name == "accuracy"
    graph = open_data("karate")
    assert evaluate(task("karate").build("gcn"), graph.test, graph).count > 0


def test_a_folder_of_images(tmp_path):
    data = open_data(image_folder(tmp_path), Wanted(size=(8, 8)))
    assert data.counts == (7, 1, 8)  # val/ is what is reported on, validation comes out of train/
    assert data.classes == 2 and data.example.shape == (1, 3, 8, 8)
    assert data.test[1].tolist() == [0] * 4 + [1] * 4


def test_a_folder_of_classes_alone_is_split_by_lot(tmp_path):
    image_folder(tmp_path, parts=("",), n=10)
    a, b = (open_data(tmp_path, Wanted(size=(8, 8), channels=1)) for _ in range(2))
    assert a.counts == (14, 2, 4) and a.example.shape == (1, 1, 8, 8)
    assert torch.equal(a.train[0], b.train[0])


def test_augmented_images_are_read_anew_in_the_same_order_from_a_seed(tmp_path):
    data = open_data(image_folder(tmp_path), Wanted(size=(8, 8), augment=True, batch_size=3))
    walks = []
    for _ in range(2):
        torch.manual_seed(3)
        walks.append(torch.cat([x for x, _ in data.train]))
    assert len(data.train) == 3 and torch.equal(*walks)


def test_what_is_wrong_with_a_folder_of_images_is_said(tmp_path):
    root = image_folder(tmp_path)
    (root / "train" / "cat" / "0.png").write_bytes(b"not a picture")
    with pytest.raises(PruneError, match=r"train/cat/0\.png is no image, or is damaged"):
        open_data(root)
    whole = (root / "val" / "cat" / "0.png").read_bytes()
    (root / "train" / "cat" / "0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PruneError, match=r"0\.png (cannot be read as an|is no) image"):
        open_data(root)
    (root / "train" / "cat" / "0.png").unlink()
    for file in (root / "val" / "dog").iterdir():
        file.unlink()
    with pytest.raises(PruneError, match=r"the class folder .*val/dog holds no images"):
        open_data(root)
    (root / "val" / "dog").rmdir()
    picture(root / "val" / "cow" / "0.png")
    with pytest.raises(PruneError, match=r"has no folder dog; .*train has no folder cow"):
        open_data(root)


def test_cifar_and_mnist(tmp_path):
    data = open_data(cifar(tmp_path / "c"))
    assert data.counts == (27, 3, 6) and data.example.shape == (1, 3, 32, 32)
    assert abs(float(torch.cat([data.train[0], data.validation[0]]).mean())) < 1e-5
    inside = open_data(tmp_path / "c" / "cifar-10-batches-py")
    assert torch.equal(inside.train[0], data.train[0])
    data = open_data(mnist(tmp_path / "m"), Wanted(channels=3, size=(14, 14)))
    assert data.counts == (11, 1, 12) and data.example.shape == (1, 3, 14, 14)


def test_damaged_cifar_and_mnist(tmp_path):
    folder = cifar(tmp_path / "c") / "cifar-10-batches-py"
    (folder / "data_batch_3").unlink()
    with pytest.raises(PruneError, match=r"incomplete or damaged.*data_batch_3"):
        open_data(tmp_path / "c")

    class Evil:
        def __reduce__(self):
            return print, ("run",)

    (folder / "data_batch_3").write_bytes(pickle.dumps({b"data": Evil()}))
    with pytest.raises(PruneError, match="print, which is no array, and is not run"):
        open_data(tmp_path / "c")
    (mnist(tmp_path / "m") / "MNIST" / "raw" / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08")
    with pytest.raises(PruneError, match=r"MNIST in .* is incomplete or damaged"):
        open_data(tmp_path / "m")


def test_text_to_classify(tmp_path):
    data = open_data(reviews(tmp_path / "r"), Wanted(keywords=True, length=12, batch_size=4))
    assert data.counts == (14, 2, 4) and data.classes == 2 and data.loss is None
    batch = next(iter(data.test))
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert bytes(batch["input_ids"][0].tolist()).startswith(b"film")
    datasets = pytest.importorskip("datasets")
    contest = datasets.load_from_disk(str(tmp_path / "r"))
    contest = datasets.DatasetDict(
        train=contest, validation=contest.select(range(6)),
        test=contest.map(lambda row: {"label": -1}, keep_in_memory=True),
    )  # fmt: skip
    contest.save_to_disk(str(tmp_path / "contest"))
    data = open_data(tmp_path / "contest", Wanted(keywords=True, length=12, batch_size=4))
    assert data.counts == (18, 2, 6) and "does not say its classes" in data.notes[0]
    with pytest.raises(PruneError, match="goes to Hugging Face models"):
        open_data(tmp_path / "r")
    next((tmp_path / "r").glob("*.arrow")).write_bytes(b"no arrow")
    with pytest.raises(PruneError, match="is damaged"):
        open_data(tmp_path / "r", Wanted(keywords=True))


def test_plain_text_is_bytes(tmp_path):
    (tmp_path / "a.txt").write_text("the quick brown fox " * 40)
    data = open_data(tmp_path, Wanted(length=16))
    x, y = data.train
    assert torch.equal(x[0, 1:], y[0, :-1]) and bytes(x[0].tolist()) == b"the quick brown "
    assert data.metric.name == "perplexity"
    logits = nn.Embedding(256, 256)
    assert evaluate(logits, data.test, data).value > 100
    with pytest.raises(PruneError, match="this model knows 100 tokens"):
        open_data(tmp_path, Wanted(vocabulary=100))
    with pytest.raises(PruneError, match="windows of 128 need at least 1,290"):
        open_data(tmp_path / "a.txt")


def test_a_users_file(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "x, y = torch.randn(20, 3), torch.arange(20) % 2\n"
        "def pair(): return (x, y), (x, y)\n"
        "def full(): return {'train': [(x, y)], 'test': (x, y), 'metric': error, "
        "'higher_is_better': False}\n"
        "def error(outputs, targets): return (outputs.argmax(1) != targets).float().mean()\n"
        "def nothing(): return None\n"
        "def once(): return {'train': iter([(x, y)]), 'test': (x, y)}\n"
        "def odd(): return (x, y[:3]), (x, y)\n"
        "def typo(): return {'train': (x, y), 'tset': (x, y)}\n"
        "def fails(): return 1 / 0\n"
        "def names(): return (x, ['a'] * 20), (x, y)\n"
        "def arrays(): return (x.numpy(), y.numpy()), (x.numpy(), y.numpy())\n"
        "def rows(): d = torch.utils.data.TensorDataset(x, y); return d, d\n"
    )
    file = f"{tmp_path}/mine.py"
    assert open_data(f"{file}:pair").counts == (18, 2, 20)
    assert open_data(f"{file}:arrays").train[0].dtype == torch.float32
    rows = open_data(f"{file}:rows", Wanted(batch_size=8))
    assert rows.counts == (20, 20, 20) and [len(x) for x, _ in rows.train] == [8, 8, 4]
    full = open_data(f"{file}:full")
    assert full.metric.name == "error" and not full.metric.higher_is_better
    for function, words in {
        "nothing": r"must return \(train, test\).*NoneType",
        "once": "train has no length",
        "odd": "train: x has 20 examples and y has 3",
        "typo": "'tset'; closest: 'test'",
        "fails": r"mine\.py:10: ZeroDivisionError",
        "pear": "no function 'pear'; closest: 'pair'",
        "names": "train: the inputs are a tensor and the targets a list",
    }.items():
        with pytest.raises(PruneError, match=words):
            open_data(f"{file}:{function}")


def test_amounts_are_judged_by_their_loss(tmp_path):
    """Not by the largest of one output, compared with every target."""
    (tmp_path / "amounts.py").write_text(
        "import torch\n"
        "from torch.nn.functional import mse_loss\n"
        "x = torch.randn(20, 3)\n"
        "y = x.sum(1, keepdim=True)\n"
        "def sums(): return {'train': (x, y), 'test': (x, y), 'loss': mse_loss}\n"
        "def wrong(): return {**sums(), 'metric': 'accuracy'}\n"
        "def own(): return [{'x': x, 'labels': y}], [{'x': x, 'labels': y}]\n"
    )
    sums = open_data(f"{tmp_path}/amounts.py:sums")
    assert sums.metric.name == "loss" and not sums.metric.higher_is_better
    model = nn.Linear(3, 1)
    score = evaluate(model, sums.test, sums)
    assert score.value == score.loss > 0
    with pytest.raises(PruneError, match=r"metric on .* fails: ValueError: accuracy wants one"):
        rehearse(model, open_data(f"{tmp_path}/amounts.py:wrong"))

    class Own(nn.Linear):
        def forward(self, x, labels):
            logits = super().forward(x)
            return {"loss": (logits - labels).square().mean(), "logits": logits}

    own = open_data(f"{tmp_path}/amounts.py:own")
    model = Own(3, 1)
    rehearse(model, own)
    score = evaluate(model, own.test, own)
    assert own.metric.name == "loss" and score.value == score.loss > 0


def test_what_cross_entropy_ignores_is_not_counted():
    outputs = torch.eye(3)
    assert METRICS["accuracy"].of(outputs, torch.tensor([0, 2, -100])) == 0.5


def test_no_such_data(tmp_path):
    with pytest.raises(PruneError, match=r"is empty. Data is one of: digits"):
        open_data(tmp_path)
    with pytest.raises(PruneError, match="there is no data 'digit'"):
        open_data("digit")
    with pytest.raises(PruneError, match=r"no kind of data 'cifar'.*closest: 'cifar10'"):
        open_data("cifar:/nowhere")
    (tmp_path / "x.bin").write_bytes(b"1")
    with pytest.raises(PruneError, match="holds no data I know"):
        open_data(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": (X, Y + 3)}, "the training data has the class 3, and the model tells 2 apart"),
        ({"test": (X, Y - 1)}, "the test data has the class -1"),
        ({"train": (X, Y.float())}, "the loss on a batch of the training data fails: RuntimeError"),
        ({"loss": lambda o, y: None}, "the loss on .* fails: ValueError: loss must give one"),
        ({"metric": Metric("m", lambda o, y: 1 / 0)}, "the metric on .* fails: ZeroDivisionError"),
        ({"train": [(X, Y), 5]}, "counting its examples fails"),
        ({"test": [(X[:, :2], Y)]}, "the model on a batch of the test data fails: RuntimeError"),
        ({"train": (X / (Y[:, None] < 1), Y)}, "the training data holds NaN .*3 of 6 .* number 1"),
        ({"test": [X]}, "a batch of the test data is a Tensor"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_trained(change, words):
    model = nn.Linear(3, 2)
    data = Dataset("toy", (X, Y), (X, Y), (X, Y), X[:1])
    rehearse(model, data)
    with pytest.raises(PruneError, match=f"toy: {words}"):
        rehearse(model, replace(data, **change))
    assert model.training


def test_evaluation_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2))
    x, y = torch.randn(9, 3), torch.arange(9) % 2
    data = Dataset("toy", (x, y), (x, y), (x, y), x[:1])
    a, b = (evaluate(model, data.test, data, batch_size=n) for n in (4, 9))
    assert (a.value, a.count) == (b.value, 9) and model.training
    assert a.loss == pytest.approx(b.loss)
