"""The report: complete, self-contained, honest about what it lacks."""

from __future__ import annotations

import base64
import builtins
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import sparse

from cliquesim.errors import InputError, MissingExtraError
from cliquesim.report import ReportData, data, grid, sections, write_report

pytest.importorskip("matplotlib", reason="needs the extra report")
pytest.importorskip("jinja2", reason="needs the extra report")

SECTIONS = (
    "retrieval",
    "baselines",
    "neighbors",
    "averages",
    "matrices",
    "distribution",
    "cliques",
    "rejected",
    "run",
)
VOID = {"meta", "img", "br", "link", "input", "hr", "path", "use", "rect", "stop"}


class Page(HTMLParser):
    """Ids, links and text of a page; fails on tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.images = 0
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.images += tag == "img"
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href", "srcset", "action"):
                self.targets.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, self.getpos()

    def handle_data(self, text: str) -> None:
        self.text += text


def _full(seed: int = 0) -> ReportData:
    rng = np.random.default_rng(seed)
    sequence = np.repeat(np.arange(10), 12)
    n = len(sequence)
    membership = sparse.random(30, n, density=0.06, random_state=seed, format="csr")
    membership.data[:] = 1
    methods = ("hog", "hog_lda", "learned", "learned_pooled")
    grid_points = np.linspace(0, 1, 101).tolist()
    return ReportData(
        title="A <run> & its report",
        frames=rng.integers(0, 255, (n, 24, 32, 3), dtype=np.uint8),
        sequence=sequence,
        category=["run", "jump"] * (n // 2),
        features={m: rng.normal(size=(n, 16)).astype(np.float32) for m in methods[:3]},
        auc={
            "mean_auc": {m: 0.7 + 0.01 * i for i, m in enumerate(methods)},
            "per_category": {
                c: {m: 0.71 + 0.01 * i for i, m in enumerate(methods)} for c in ("run", "jump")
            },
            "anchors": 40,
            "curves": {m: {"fpr": grid_points, "tpr": grid_points} for m in methods},
        },
        baselines={
            "reference": "learned",
            "anchors": 40,
            "pool_radius": 1,
            "rows": [
                {
                    "name": "one_sample",
                    "title": "1-sample <CNN>",
                    "auc": 0.655,
                    "auc_pooled": None,
                    "difference": {"mean": 0.125, "low": 0.1, "high": 0.15},
                    "difference_pooled": None,
                },
                {
                    "name": "learned",
                    "title": "learned",
                    "auc": 0.78,
                    "auc_pooled": 0.79,
                    "difference": {"mean": 0.0, "low": 0.0, "high": 0.0},
                    "difference_pooled": {"mean": 0.0, "low": 0.0, "high": 0.0},
                },
            ],
            "skipped": [{"name": "alexnet", "reason": "no weights"}],
            "curves": {"1-sample <CNN>": {"fpr": grid_points, "tpr": grid_points}},
        },
        membership=membership,
        batches=rng.random((5, 30)) < 0.3,
        rejected=[(Path("a/b<c>.jpg"), "truncated JPEG")],
        warnings=["Look & see"],
        settings={"k": 30, "training": {"steps": 10, "lr": None}},
        timings={"hog": 1.5, "training": 130.0},
        versions={"numpy": np.__version__},
    )


def test_the_page_is_whole_and_self_contained(tmp_path: Path) -> None:
    seen: list[float] = []
    path = write_report(tmp_path / "deep" / "report.html", _full(), progress=seen.append)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert set(SECTIONS) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids)), "ids are unique"
    assert page.targets
    for target in page.targets:
        assert target.startswith(("data:", "#")), target
        if target.startswith("#"):
            assert target[1:] in page.ids
    for reference in re.findall(r"url\(([^)]*)\)", text):
        assert reference.strip("\"'").removeprefix("#") in page.ids
    assert not re.search(r"https?://|@import|<script", text)
    for expected in (
        "A <run> & its report",
        "Look & see",
        "a/b<c>.jpg",
        "truncated JPEG",
        "120 frames · 10 sequences · 2 categories · 30 cliques · 5 batches",
        "0.730",
        "1-sample <CNN>",
        "0.655",
        "+0.125 (+0.100 to +0.150)",
        "alexnet was left out: no weights",
        "training.steps",
        "2 min 10 s",
        "Fig. 1a",
        "Fig. 2",
        "Fig. 3",
        "Fig. 4a",
        "Fig. 4b",
        "Fig. 5",
    ):
        assert expected in page.text, expected
    assert page.images > 6 * 4
    assert seen[-1] == 1.0
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_the_same_data_give_the_same_page(tmp_path: Path) -> None:
    pages = [write_report(tmp_path / name, _full()).read_bytes() for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("keep", "sentence"),
    [
        ((), "No labels were given"),
        (("auc",), "No baselines were measured"),
        (("frames",), "holds no descriptors"),
        (("features", "sequence"), "The frames are not at hand"),
        (("features", "frames"), "have no sequences"),
        (("frames", "features", "sequence", "auc"), "holds no cliques"),
        (("membership", "batches", "sequence"), "frames in the median clique"),
    ],
)
def test_missing_parts_are_left_out(tmp_path: Path, keep: tuple[str, ...], sentence: str) -> None:
    whole = _full()
    part = ReportData(**{name: getattr(whole, name) for name in keep})
    page = Page(write_report(tmp_path / "r.html", part).read_text(encoding="utf-8"))
    assert set(SECTIONS) <= set(page.ids)
    assert sentence in page.text


def test_one_sequence_and_one_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for n in (1, 2, 3, 9):
        small = ReportData(
            frames=rng.integers(0, 255, (n, 16, 16, 3), dtype=np.uint8),
            sequence=np.zeros(n, dtype=np.int64),
            features={"learned": rng.normal(size=(n, 5)).astype(np.float32)},
            membership=np.ones((1, n)),
            batches=np.ones((1, 1), dtype=bool),
        )
        page = Page(write_report(tmp_path / "r.html", small).read_text(encoding="utf-8"))
        assert ("A single frame has no neighbours" in page.text) == (n == 1)
        assert ("All frames belong to one sequence" in page.text) == (n > 1)
        assert ("may learn to tell sequences apart" in page.text) == (n > 1)


def test_constant_features_do_not_break_it(tmp_path: Path) -> None:
    same = _full()
    same.features = {"learned": np.ones((120, 4), dtype=np.float32)}
    same.frames = np.zeros((120, 16, 16, 3), dtype=np.uint8)
    write_report(tmp_path / "r.html", same)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequence": np.zeros(3, dtype=np.int64)}, "sequence must have shape"),
        ({"features": {"hog": np.zeros((3, 4))}}, r"features\['hog'\] must have shape"),
        ({"batches": np.zeros((2, 7), dtype=bool)}, r"batches must have shape \(B, 30\)"),
        (
            {"membership": np.ones((2, 7))},
            r"membership must have 120 columns, one per frame \(or 240",
        ),
        ({"category": ["run"]}, "category must have 120 entries, got 1"),
        ({"frames": np.zeros((120, 8, 8, 3))}, "frames must be uint8"),
        ({"metric": "euclidean"}, "metric must be one of"),
        ({"membership": None}, "batches needs membership"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    broken = _full()
    for name, value in change.items():
        setattr(broken, name, value)
    with pytest.raises(InputError, match=message):
        write_report(tmp_path / "r.html", broken)
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    importing = builtins.__import__

    def without_jinja(name: str, *rest: Any, **more: Any) -> Any:
        if name == "jinja2":
            raise ImportError("no jinja2", name="jinja2")
        return importing(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_jinja)
    with pytest.raises(MissingExtraError, match=r"'jinja2'.*cliquesim\[report\]"):
        write_report(tmp_path / "r.html", ReportData())


@pytest.mark.parametrize("metric", ["correlation", "cosine", "dot"])
def test_similarities_match_numpy(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_BLOCK_VALUES", 40)
    rng = np.random.default_rng(2)
    X = rng.normal(size=(23, 6)).astype(np.float32)
    rows = np.array([0, 7, 22])
    expected = {
        "correlation": np.corrcoef(X)[rows],
        "cosine": (X / np.linalg.norm(X, axis=1, keepdims=True))[rows]
        @ (X / np.linalg.norm(X, axis=1, keepdims=True)).T,
        "dot": X[rows] @ X.T,
    }[metric]
    np.testing.assert_allclose(data.similarities_to(X, rows, metric), expected, atol=1e-5)


@pytest.mark.parametrize(("n", "width"), [(30, 8), (8, 30)])
def test_spectrum_matches_the_similarity_matrix(n: int, width: int) -> None:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n, width)).astype(np.float32)
    values = np.sort(np.linalg.eigvalsh(np.corrcoef(X)))[::-1]
    cumulative = data.spectrum(X, "correlation", np.arange(n))
    expected = (np.cumsum(values) / values.sum())[: len(cumulative)]
    np.testing.assert_allclose(cumulative, expected, atol=1e-5)
    assert cumulative[-1] == pytest.approx(1.0)


def test_nearest_leaves_out_the_own_sequence() -> None:
    similarity = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5], dtype=np.float32)
    sequence = np.array([0, 0, 1, 1, 2, 2])
    assert data.nearest(similarity, 0, 3, sequence).tolist() == [2, 3, 4]
    assert data.nearest(similarity, 0, 3, sequence, per_sequence=1).tolist() == [2, 4]
    assert data.nearest(similarity, 0, 3, None).tolist() == [1, 2, 3]
    assert data.nearest(similarity, 0, 3, np.zeros(6)).tolist() == [1, 2, 3]


def test_clique_statistics_by_hand() -> None:
    membership = np.array([[1, 1, 0, 0, 0], [0, 1, 1, 1, 0]])
    statistics = data.clique_statistics(
        ReportData(
            sequence=np.array([5, 5, 5, 9, 9]),
            membership=membership,
            batches=np.array([[True, False], [True, False]]),
        )
    )
    assert statistics.sizes.tolist() == [2, 3]
    assert statistics.covered == 0.8
    assert statistics.sequences == 1.5
    assert statistics.same_sequence == pytest.approx(2 / 4)  # pairs 01, 12 of 01, 12, 13, 23
    assert (statistics.batches, statistics.per_batch, statistics.distinct) == (2, 1, 1)
    assert (statistics.cliques_used, statistics.frames_used) == (0.5, 0.4)


def test_mirrored_members_count_as_their_frame(tmp_path: Path) -> None:
    membership = np.array([[1, 1, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0]])
    mirrored = ReportData(
        frames=np.zeros((3, 8, 8, 3), np.uint8), sequence=np.arange(3), membership=membership
    )
    statistics = data.clique_statistics(mirrored)
    assert statistics.sizes.tolist() == [3, 1]
    assert statistics.covered == 1.0
    assert statistics.same_sequence == 0.0
    mirrored.frames[0, :, :4] = 255  # the left half of frame 0, the right half of its mirror image
    tiles = sections.cliques(mirrored)["tiles"]
    encoded = base64.b64decode(tiles[1]["average"].partition(",")[2])
    picture = np.asarray(Image.open(io.BytesIO(encoded)).convert("L"))
    assert picture[:, :40].max() < 20
    assert picture[:, -40:].min() > 235


def test_queries_are_spread_and_repeatable() -> None:
    whole = _full()
    queries = data.draw_queries(whole, 6, seed=4)
    assert queries.tolist() == data.draw_queries(whole, 6, seed=4).tolist()
    assert sorted(whole.category[i] for i in queries) == ["jump"] * 3 + ["run"] * 3
    assert len({whole.sequence[i] for i in queries}) == 6
    assert len(data.draw_queries(ReportData(sequence=np.zeros(3, dtype=int)), 6)) == 3


def test_the_sequence_that_repeats_is_found() -> None:
    rng = np.random.default_rng(5)
    n = 40
    noise = rng.normal(size=(3, n, 12))
    noise[1] = noise[1, np.arange(n) % 8] + 0.05 * rng.normal(size=(n, 12))
    chosen = data.repeating_sequence(
        ReportData(
            sequence=np.repeat([3, 1, 2], n),
            features={"learned": noise.reshape(-1, 12).astype(np.float32)},
        )
    )
    assert chosen.tolist() == list(range(n, 2 * n))


def test_neighbor_grid_shows_the_pictures() -> None:
    red, green, blue = (np.zeros((20, 20, 3), np.uint8) for _ in range(3))
    red[..., 0], green[..., 1], blue[..., 2] = 250, 250, 250
    picture = grid.neighbor_grid([red, blue], [[green, blue], [red]], [["a", "b"], ["c"]], tile=40)
    assert isinstance(picture, Image.Image)
    pixels = np.asarray(picture)
    columns = [4 + 20, 14 + 44 + 20, 14 + 88 + 20]
    top, below = pixels[24, columns], pixels[24 + 62, columns]
    np.testing.assert_array_equal(top, [[250, 0, 0], [0, 250, 0], [0, 0, 250]])
    np.testing.assert_array_equal(below[:2], [[0, 0, 250], [250, 0, 0]])
    assert below[2].tolist() == [255, 255, 255], "a shorter row stays empty"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "at least one query"),
        (([np.zeros((4, 4), np.uint8)], []), "neighbor_images must have 1 rows, got 0"),
        (([np.zeros((4, 4))], [[]]), "a picture must be uint8"),
    ],
)
def test_neighbor_grid_refuses(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        grid.neighbor_grid(*arguments)


def test_average_is_the_mean() -> None:
    frames = np.random.default_rng(6).integers(0, 256, (50, 5, 4, 3), dtype=np.uint8)
    np.testing.assert_allclose(grid.average(frames), frames.mean(axis=0), atol=0.51)
