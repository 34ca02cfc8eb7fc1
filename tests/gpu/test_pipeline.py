"""A whole fit on a CUDA device against the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_corpus import SMALL, write_figures

import cliquesim as cs
from cliquesim import pipeline
from cliquesim._device import cuda_status
from cliquesim.config import make_config

AVAILABLE, REASON = cuda_status()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not AVAILABLE, reason=REASON),
    pytest.mark.filterwarnings("ignore::cliquesim.BatchWarning", "ignore::cliquesim.CliqueWarning"),
]


def test_fit_and_embed_against_the_cpu(tmp_path: Path) -> None:
    write_figures(tmp_path / "frames")
    corpus = cs.Corpus.from_folder(tmp_path / "frames", size=(48, 48))
    config = make_config(changes={**SMALL, "training.precision": "float32"})
    for device in ("cpu", "cuda"):
        pipeline.fit(corpus, tmp_path / device, config, device=device)
    models = [cs.SimilarityModel.load(tmp_path / d, device=d) for d in ("cpu", "cuda")]
    for name in ("round-1/cliques/indices.npy", "round-1/batches/indptr.npy"):
        cpu, cuda = (np.load(tmp_path / device / name) for device in ("cpu", "cuda"))
        np.testing.assert_array_equal(cpu, cuda)
    # Many kicks are tried at a time there, so that others are found: as good ones.
    stages = [tmp_path / device / "round-1/batches/stage.json" for device in ("cpu", "cuda")]
    parts = [json.loads(stage.read_text())["summary"]["per_part"] for stage in stages]
    for cpu, cuda in zip(*parts, strict=True):
        assert cuda["objective"] == pytest.approx(cpu["objective"], rel=0.02)
    for model in models:
        again = model.transform(corpus)
        np.testing.assert_allclose(again, model.embedding_, atol=2e-3)
    similar = [model.embedding_ @ model.embedding_.T for model in models]
    assert np.corrcoef(similar[0].ravel(), similar[1].ravel())[0, 1] > 0.9
