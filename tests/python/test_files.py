"""Atomic files: whole or absent, open formats, errors that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cliquesim import _files
from cliquesim.errors import InputError


def test_a_failed_write_leaves_the_former_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "new" / "table.json"
    _files.save_json(target, {"a": 1})

    def write_half() -> None:
        with _files.write_atomically(target) as temporary:
            temporary.write_text('{"a": 2, "b"')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert _files.load_json(target) == {"a": 1}
    assert [path.name for path in target.parent.iterdir()] == ["table.json"]


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("shape", [(5, 3), (0, 4), ()])
def test_arrays_come_back(tmp_path: Path, mmap: bool, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape)
    _files.save_array(tmp_path / "a.npy", np.asarray(array))
    if 0 in shape and mmap:
        return  # an empty file cannot be mapped
    np.testing.assert_array_equal(_files.load_array(tmp_path / "a.npy", mmap=mmap), array)


def test_unreadable_arrays_name_the_file(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npy"
    _files.save_array(whole, np.arange(1000.0))
    (tmp_path / "cut.npy").write_bytes(whole.read_bytes()[:-9])
    (tmp_path / "head.npy").write_bytes(whole.read_bytes()[:20])
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty.npy").touch()
    np.savez(tmp_path / "zip.npy.npz", np.arange(3))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object))
    for name in ("cut", "head", "text", "empty", "zip.npy.npz", "object", "missing"):
        path = tmp_path / (name if "." in name else f"{name}.npy")
        for mmap in (False, True):
            with pytest.raises(InputError, match=path.name.replace(".", r"\.")):
                _files.load_array(path, mmap=mmap)
    with pytest.raises(InputError, match="objects"):
        _files.save_array(tmp_path / "o.npy", np.array([{}], dtype=object))


def test_json_is_sorted_plain_and_without_nan(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    value = {"b": np.float32(0.5), "a": np.arange(3), "nan": np.nan, "p": Path("x/y"), "t": (1, 2)}
    _files.save_json(path, value)
    assert list(_files.load_json(path)) == ["a", "b", "nan", "p", "t"]
    assert _files.load_json(path) == {
        "a": [0, 1, 2],
        "b": 0.5,
        "nan": None,
        "p": "x/y",
        "t": [1, 2],
    }
    path.write_text('{"cut": [1,')
    with pytest.raises(InputError, match=r"settings\.json"):
        _files.load_json(path)


def test_hashes_see_values_shape_and_dtype(tmp_path: Path) -> None:
    a = np.arange(12, dtype=np.int64)
    hashes = [_files.hash_array(x) for x in (a, a.reshape(3, 4), a.astype(np.int32), a + 1)]
    assert len(set(hashes)) == 4
    assert _files.hash_array(np.asfortranarray(a.reshape(3, 4))) == hashes[1]
    large = np.random.default_rng(0).integers(0, 255, (70000, 100), dtype=np.uint8)
    changed = large.copy()
    changed[-1, -1] ^= 1
    assert _files.hash_array(large) != _files.hash_array(changed)
    assert _files.hash_array(np.empty((0, 3))) != _files.hash_array(np.empty((0, 4)))
    (tmp_path / "f").write_bytes(b"abc")
    assert _files.hash_file(tmp_path / "f").startswith("ba7816bf")
    assert _files.hash_json({"a": 1, "b": 2}) == _files.hash_json({"b": 2, "a": 1})
