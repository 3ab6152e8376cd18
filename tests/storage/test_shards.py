"""safetensors files read where they lie and written tensor by tensor."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sentei import PruneError
from sentei.storage.files import sha256
from sentei.storage.shards import INDEX, Form, Shards, write_shard

TYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.uint16, torch.uint32, torch.uint64, torch.complex64,
]  # fmt: skip


def values(shape, dtype, seed=0):
    """Any bits, as long as they are values of that type."""
    count = torch.Size(shape).numel() * dtype.itemsize
    bits = torch.randint(256, (count,), generator=torch.Generator().manual_seed(seed))
    bits = bits.to(torch.uint8) % 2 if dtype is torch.bool else bits.to(torch.uint8)
    return bits.view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)


def bits(tensor):
    return tensor.contiguous().flatten().view(torch.uint8).tolist()


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(st.lists(st.integers(0, 4), max_size=3), st.sampled_from(TYPES)),
        max_size=6,
    )
)
def test_what_is_written_is_what_the_library_reads(tmp_path_factory, forms):
    folder = tmp_path_factory.mktemp("shard")
    tensors = {name: values(*form, seed=i) for i, (name, form) in enumerate(forms.items())}
    told = []
    digest = write_shard(
        folder / "ours.safetensors",
        {name: Form(tuple(shape), dtype) for name, (shape, dtype) in forms.items()},
        tensors.__getitem__, {"format": "pt"}, told.append,
    )  # fmt: skip
    assert digest == sha256(folder / "ours.safetensors")
    assert sum(told) == sum(t.numel() * t.element_size() for t in tensors.values())
    again = load_file(folder / "ours.safetensors")
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (again[name].shape, again[name].dtype) == (tensor.shape, tensor.dtype)
        assert bits(again[name]) == bits(tensor)
    with safe_open(folder / "ours.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    if tensors:
        save_file(tensors, folder / "theirs.safetensors", {"format": "pt"})
        with Shards(folder / "theirs.safetensors") as stored:
            assert {*stored} == {*tensors}
            for name, tensor in tensors.items():
                assert stored.form(name) == (tuple(tensor.shape), tensor.dtype)
                assert stored.form(name).bytes == tensor.numel() * tensor.element_size()
                assert bits(stored[name]) == bits(tensor)


def test_a_tensor_that_is_not_what_was_said(tmp_path):
    form = {"w": Form((2, 3), torch.float32)}
    for other in (torch.zeros(3, 2), torch.zeros(2, 3).half()):
        with pytest.raises(PruneError, match=r"w came as .* was to be written"):
            write_shard(tmp_path / "a.safetensors", form, lambda name, t=other: t)


def test_folders(tmp_path):
    with pytest.raises(PruneError, match="there is no file or folder"):
        Shards(tmp_path / "nothing")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(PruneError, match="pickled weights"):
        Shards(tmp_path)
    save_file({"a": torch.ones(2)}, tmp_path / "x-1.safetensors")
    save_file({"b": torch.ones(3)}, tmp_path / "x-2.safetensors")
    with Shards(tmp_path) as stored:
        assert {*stored} == {"a", "b"} and len(stored) == 2
        assert stored.where == {"a": "x-1.safetensors", "b": "x-2.safetensors"}
    index = tmp_path / INDEX
    index.write_text(json.dumps({"weight_map": {"b": "x-2.safetensors"}}))
    with Shards(tmp_path) as stored:
        assert {*stored} == {"b"}
    save_file({"a": torch.ones(2)}, tmp_path / "x-2.safetensors")
    index.unlink()
    with pytest.raises(PruneError, match=r"'a' is in x-1.safetensors and x-2.safetensors"):
        Shards(tmp_path)


@pytest.mark.parametrize(
    "content, what",
    [
        ("{", "no index"), ("[]", "no index"), ('{"weight_map": 3}', "no index"),
        ('{"weight_map": {"a": "../x-1.safetensors"}}', "no file beside it"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "no file beside it"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "lacks gone.safetensors"),
    ],
)  # fmt: skip
def test_an_index_that_is_wrong(tmp_path, content, what):
    save_file({"a": torch.ones(2)}, tmp_path / "x-1.safetensors")
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(PruneError, match=what):
        Shards(tmp_path)


@pytest.mark.parametrize("size", [0, 7, 40, 300])
def test_a_file_that_was_cut_short(tmp_path, size):
    save_file({"a": torch.ones(200)}, tmp_path / "a.safetensors")
    whole = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(whole[:size])
    with pytest.raises(PruneError, match="no whole safetensors file"):
        Shards(tmp_path)
