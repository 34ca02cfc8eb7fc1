"""`SimilarityModel`: the whole method behind fit, transform and search."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliquesim._device import check_device
from cliquesim._files import load_array, load_json
from cliquesim.config import PRESETS, Config, make_config
from cliquesim.errors import InputError
from cliquesim.neighbors import Neighbors, neighbors
from cliquesim.run_folder import open_run, read_stage

if TYPE_CHECKING:
    from cliquesim.corpus import Corpus
    from cliquesim.encoder import Encoder

# What transform and search need of a run; the rest can be made again from the frames.
_KEPT = ("run.json", "summary.json", "embedding", "model", "corpus")


class SimilarityModel:
    """Learn a visual similarity from frames without labels, embed frames and search.

    Parameters
    ----------
    preset : "default", "paper" or "demo"; see `cliquesim.config.PRESETS`.
    run : folder that keeps every stage, so that an interrupted `fit` goes on; None for a temporary
        one that goes with the object.
    num_threads : None for all processors.
    device : "cpu" or "cuda": where the stages run that have a CUDA version.
    **settings : any setting of `cliquesim.config.Config`, e.g. ``max_rounds=1``; those of the
        training by their dotted names or with two underscores, e.g. ``training__steps=500``.

    Attributes
    ----------
    embedding_ : (N, E) float32, one row per frame of the corpus; similarity is the dot product.
    summary_ : dict, the numbers of the run.
    corpus_ : the `Corpus` of the rows, from the run's cache.
    paths_ : N strings, the frames in the order of the rows.
    sequence_ : (N,) int64, the sequence of each frame.

    Raises
    ------
    InputError
        An unknown or impossible setting, at construction.
    RunError
        ``device="cuda"`` cannot be used; the message says why.

    Examples
    --------
    >>> import cliquesim as cs
    >>> corpus = cs.Corpus.from_folder("frames")                       # doctest: +SKIP
    >>> model = cs.SimilarityModel(seed=1).fit(corpus)                 # doctest: +SKIP
    >>> found = model.search(corpus.frames[:5], k=10)                  # doctest: +SKIP
    >>> model.save("my-similarity")                                    # doctest: +SKIP
    """

    def __init__(
        self,
        preset: str = "default",
        *,
        run: str | os.PathLike[str] | None = None,
        num_threads: int | None = None,
        device: str = "cpu",
        **settings: Any,
    ) -> None:
        self.preset = preset
        self.run = run
        self.num_threads = num_threads
        self.device = check_device(device, stage="SimilarityModel")
        self._settings = {name.replace("__", "."): value for name, value in settings.items()}
        self._config = make_config(preset, changes=self._settings)
        self._folder: Path | None = None
        self._encoder: Encoder | None = None

    def __repr__(self) -> str:
        shown = "".join(f", {k}={v!r}" for k, v in self._settings.items())
        return f"SimilarityModel(preset={self.preset!r}{shown})"

    @property
    def config(self) -> Config:
        """The checked settings."""
        return self._config

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor arguments: preset, run, num_threads, device, and every setting by name."""
        settings = self._config.model_dump(mode="json") if deep else dict(self._settings)
        own = ("preset", "run", "num_threads", "device")
        return {**{name: getattr(self, name) for name in own}, **settings}

    def set_params(self, **params: Any) -> SimilarityModel:
        """Change constructor arguments; InputError names a wrong one and changes nothing."""
        preset = params.pop("preset", self.preset)
        if preset not in PRESETS:
            raise InputError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
        run = params.pop("run", self.run)
        threads = params.pop("num_threads", self.num_threads)
        device = params.pop("device", self.device)
        check_device(device, stage="SimilarityModel")
        changes = {name.replace("__", "."): value for name, value in params.items()}
        settings = {**self._settings, **changes}
        self._config = make_config(preset, changes=settings)
        self.preset, self.run, self._settings = preset, run, settings
        self.num_threads, self.device, self._encoder = threads, device, None
        return self

    def fit(self, corpus: Corpus, y: None = None, *, observer: Any = None) -> SimilarityModel:
        """Learn the similarity of a corpus. `y` is ignored: the method needs no labels."""
        from cliquesim import pipeline

        folder = self.run
        if folder is None:
            folder = tempfile.mkdtemp(prefix="cliquesim-run-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        result = pipeline.fit(
            corpus,
            folder,
            self._config,
            source=None if corpus.folder is None else str(corpus.folder),
            num_threads=self.num_threads,
            device=self.device,
            observer=observer,
        )
        self._open(result.folder)
        return self

    def transform(
        self,
        frames: NDArray[np.uint8] | Corpus,
        mirrored: bool = False,
        extent: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """Embed frames uint8 (n, H, W, 3) of any size, or with `mirrored` their mirror images.

        Gives (n, E) float32; the similarity of two frames is the dot product. `extent` (n, 2) says
        which share of each frame the subject takes; None: all of it. A `Corpus` brings its own.
        """
        from cliquesim.corpus import Corpus

        if isinstance(frames, Corpus):
            extent = frames.extent if extent is None else extent
            frames = frames.frames
        frames = np.asarray(frames)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise InputError(
                f"frames must be uint8 (n, H, W, 3), got {frames.dtype} {frames.shape}"
            )
        return self._fitted().transform(frames, mirrored, extent)

    def search(
        self, frames: NDArray[np.uint8] | Corpus, k: int = 20, extent: ArrayLike | None = None
    ) -> Neighbors:
        """The k most similar frames of the fitted corpus for every query; see `transform`."""
        return self.search_embedding(self.transform(frames, extent=extent), k)

    def search_embedding(self, queries: NDArray[np.float32], k: int = 20) -> Neighbors:
        """As `search`, for queries that are embedded already."""
        self._fitted()
        return neighbors(self.embedding_, k=k, queries=queries, num_threads=self.num_threads)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a folder with all that `load` needs: settings, weights, the corpus's embedding."""
        self._fitted()
        assert self._folder is not None
        target = Path(path)
        if target.exists():
            raise InputError(f"{target} exists already")
        partial = target.with_name(f".{target.name}.partial")
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        for name in _KEPT:
            source, copy = self._folder / name, partial / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, copy)
            else:
                shutil.copy2(source, copy)
        partial.rename(target)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], num_threads: int | None = None, device: str = "cpu"
    ) -> SimilarityModel:
        """A model that `save` wrote, or a finished run folder of `cliquesim fit`.

        Raises
        ------
        InputError
            No run, an unfinished or damaged one, or one of another format version.
        """
        folder, manifest = open_run(path)
        model = cls(num_threads=num_threads, device=device)
        model._config = make_config(changes=manifest["settings"])
        model._settings = dict(manifest["settings"])
        model._open(folder)
        return model

    def _open(self, folder: Path) -> None:
        for name in ("embedding", "model"):
            if read_stage(folder / name, name) is None:
                raise InputError(
                    f"{folder} is not finished (its stage {name!r} is missing or damaged); run "
                    "`cliquesim fit` with the same arguments to go on"
                )
        from cliquesim.corpus import Corpus

        self._folder = folder
        self._encoder = None
        self.summary_: dict[str, Any] = load_json(folder / "summary.json")
        self.embedding_: NDArray[np.float32] = load_array(
            folder / "embedding/embedding.npy", mmap=True
        )
        self.corpus_ = Corpus.load(folder / "corpus")
        self.paths_: list[str] = self.corpus_.paths
        self.sequence_: NDArray[np.int64] = self.corpus_.sequence

    @property
    def extent_(self) -> NDArray[np.float32]:
        """(N, 2) shares of the corpus's frames that the model looks at; 1 with focus=False."""
        return self.extent_of(self.corpus_)

    def extent_of(self, corpus: Corpus) -> NDArray[np.float32]:
        """(N, 2) shares of the frames of any corpus that the model looks at."""
        return corpus.extent if self._config.focus else np.ones_like(corpus.extent)

    @property
    def encoder(self) -> Encoder:
        """What embeds frames: the network and whitened HOG."""
        return self._fitted()

    def _fitted(self) -> Encoder:
        if self._folder is None:
            raise InputError("this SimilarityModel is not fitted; call fit or load first")
        if self._encoder is None:
            from cliquesim.encoder import Encoder

            self._encoder = Encoder.load(self._folder / "model", self.num_threads, self.device)
        return self._encoder
