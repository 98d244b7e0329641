"""Checkpoint files that are whole, split, damaged, lying or of another kind."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from anzoth.scheduler.checkpoint import CheckpointError, read_headers, weight_files
from anzoth.scheduler.weights import Part, WeightReader

A, B, C = Part("a", (2, 3)), Part("b", (4, 3)), Part("c", (5,))
TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3),
    "b": torch.arange(12.0).reshape(4, 3) / 7,
    "c": torch.arange(5.0) * 1000,
}


@pytest.fixture
def single(tmp_path):
    save_file(TENSORS, tmp_path / "model.safetensors")
    return tmp_path


def _sharded(path, **overrides):
    save_file({"a": TENSORS["a"], "c": TENSORS["c"]}, path / "one.safetensors")
    save_file({"b": TENSORS["b"]}, path / "two.safetensors")
    weight_map = {"a": "one.safetensors", "c": "one.safetensors", "b": "two.safetensors"}
    index = {"metadata": {}, "weight_map": weight_map | overrides}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


@pytest.mark.parametrize("is_sharded", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_parts_are_laid_one_under_the_other_in_the_wanted_type(tmp_path, is_sharded, dtype):
    if is_sharded:
        _sharded(tmp_path)
    else:
        save_file(TENSORS, tmp_path / "model.safetensors")
    reader = WeightReader(tmp_path, [A, B, C])
    stacked = reader.read([B, A], dtype)
    assert torch.equal(stacked, torch.cat((TENSORS["b"], TENSORS["a"])).to(dtype))
    assert torch.equal(reader.read([C], dtype), TENSORS["c"].to(dtype))


def test_what_was_read_does_not_change_with_the_file(single):
    """A parameter must own its memory, even where type and shape would allow a view of the map."""
    read = WeightReader(single, [A, B, C]).read([A], torch.float32)
    file = single / "model.safetensors"
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size - 68)
        stream.write(b"\xff" * 68)
    assert torch.equal(read, TENSORS["a"])


def test_progress_rises_to_one(single):
    shares = []
    reader = WeightReader(single, [A, B, C], progress=shares.append)
    for part in (A, B, C):
        reader.read([part], torch.float32)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize(
    ("wanted", "ignored", "named"),
    [
        ([A, B, C, Part("d", (1,))], (), "missing: d"),
        ([A, B], (), "unexpected: c"),
        ([A, B, Part("c", (6,))], (), r"wrong shape: c is \[5\], not \[6\]"),
        ([A, Part("x", (1,))], ("b",), "missing: x; unexpected: c"),
    ],
)
def test_tensors_that_do_not_fit_are_named(single, wanted, ignored, named):
    with pytest.raises(CheckpointError, match=named):
        WeightReader(single, wanted, ignored=ignored)


def test_a_long_list_of_problems_is_cut_short(single):
    wanted = [A, B, C, *(Part(f"layer.{i}", (1,)) for i in range(40))]
    with pytest.raises(CheckpointError, match=r"layer\.4 and 35 more$"):
        WeightReader(single, wanted)


def test_tensors_that_may_be_there_are_ignored(tmp_path):
    extra = {"c": TENSORS["c"], "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}
    save_file({"a": TENSORS["a"]} | extra, tmp_path / "model.safetensors")
    reader = WeightReader(tmp_path, [A], ignored=["c"])
    assert torch.equal(reader.read([A], torch.float32), TENSORS["a"])


# --- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_pickled_weights_are_never_opened(tmp_path, name):
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(CheckpointError, match=r"only pickled weights.*convert them"):
        weight_files(tmp_path)


def test_an_empty_directory_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        weight_files(tmp_path)


def test_a_shard_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"lacks three\.safetensors"):
        weight_files(_sharded(tmp_path, d="three.safetensors"))


@pytest.mark.parametrize("name", ["../one.safetensors", "/etc/passwd", "sub/one.safetensors"])
def test_an_index_cannot_point_outside_its_directory(tmp_path, name):
    with pytest.raises(CheckpointError, match="outside its directory"):
        weight_files(_sharded(tmp_path, d=name))


def test_an_index_without_a_weight_map_is_named(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="has no weight_map"):
        weight_files(tmp_path)


def test_a_tensor_in_two_files_is_named(tmp_path):
    for name in ("one", "two"):
        save_file({"a": TENSORS["a"]}, tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match="'a' is in both"):
        read_headers([tmp_path / "one.safetensors", tmp_path / "two.safetensors"])


def _file(path, header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    file = path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return [file]


def _entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"t": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


@pytest.mark.parametrize(
    ("header", "data_bytes", "length"),
    [
        (b"not json", 0, None),
        (b"[1]", 0, None),
        (b"[" * 50_000, 0, None),
        (_entry(), 8, 10**18),
        (_entry(), 8, 0),
        (_entry(), 4, None),
        (_entry(), 12, None),
        (_entry(offsets=(0, 4)), 8, None),
        (_entry(offsets=(8, 0)), 8, None),
        (_entry(offsets=(-8, 0)), 8, None),
        (_entry(shape=(-2, -1)), 8, None),
        (_entry(shape=(2**40, 2**40)), 8, None),
        (_entry(shape=(2.0,)), 8, None),
        (_entry(dtype="I8", shape=(8,)), 8, None),
        ({"t": {"dtype": "F32"}}, 8, None),
        ({"t": None}, 8, None),
    ],
)
def test_a_header_that_lies_about_its_file_is_refused(tmp_path, header, data_bytes, length):
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read_headers(_file(tmp_path, header, b"\0" * data_bytes, length))


@pytest.mark.parametrize("kept", [0, 4, 8, 20, -1])
def test_a_file_that_was_cut_off_is_refused(single, kept):
    file = single / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError):
        WeightReader(single, [A, B, C])
