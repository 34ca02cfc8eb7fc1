"""Whitening with a common, regularised covariance: LDA-HOG (Sect. 2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliquesim import _core
from cliquesim._device import check_device, on_cuda
from cliquesim._mapped import release
from cliquesim._validation import as_choice, as_count, as_groups, as_output, as_real, as_threads
from cliquesim.errors import InputError
from cliquesim.features._moments import (
    Moments,
    Progress,
    check_row,
    float32_chunks,
    part,
    principal_projection,
    triangular_projection,
)
from cliquesim.features._shrinkage import (
    FLOOR,
    ShrinkagePath,
    StretchSample,
    ledoit_wolf,
    time_direction,
)

_PARAMETERS = ("estimator", "shrinkage", "common_mean", "n_components", "num_threads", "device")
_HERE = {"num_threads": None, "device": "cpu"}  # of this machine, not of a stored whitening
_FITTED = (
    "mean_",
    "covariance_",
    "shrinkage_",
    "relative_shrinkage_",
    "shrinkage_path_",
    "n_components_",
    "kept_variance_",
)


class Whitening:
    """Whitening by the covariance that all frames share (Hariharan et al. 2012).

    ``phi = R^-T (h - mu)`` with ``Sigma + lambda I = R^T R``, so that ``phi_i . phi_j`` is the
    LDA-HOG similarity of frames i and j.

    Parameters
    ----------
    estimator : {"full", "stationary"}
        "full" is the sample covariance. "stationary" averages it over all pairs of cells with the
        same offset, which needs descriptors of shape (N, h, w, channels), holds far fewer free
        numbers and so is the better one for few frames. It need not be positive semi-definite:
        negative eigenvalues are then set to 0.
    shrinkage : "auto" or float
        lambda **in multiples of the mean eigenvalue of Sigma**; 0 does not regularise. "auto"
        chooses from the data, without labels. With `groups` (sequences in temporal order) it takes
        the lambda whose similarity tells best which way time runs: the frames after i should look
        more like those after its match j in another sequence than like those before j. Without
        groups, or if that is not decisive, it is Ledoit and Wolf's formula, but at least 3: models
        of density regularise far too little for retrieval.
    common_mean : bool
        Only for "stationary": one mean for all cells instead of one for each.
    n_components : int or float, optional
        Project to that many principal directions of Sigma, or, for a number between 0 and 1, to the
        fewest that keep this share of its variance. Then ``phi = (Lambda + lambda I)^-1/2 U^T
        (h - mu)``, with U the leading eigenvectors, and phi_i . phi_j is the LDA-HOG similarity
        without the weakest directions. lambda is chosen for all directions.
    num_threads : int, optional
        All processors of this process by default; results do not depend on it.
    device : {"cpu", "cuda"}
        With "cuda", moments and projection are made there, in products without TF32: arrays go
        there in blocks, and `transform` of a CUDA tensor gives a tensor beside it. The factor (or
        the eigenvectors) and the choice of lambda stay on the CPU. Results are those of the CPU
        within float32 rounding.

    Attributes
    ----------
    mean_ : float64 array (D,)
    covariance_ : float64 array (D, D)
        Sigma, normalised by N - 1, before lambda is added.
    shrinkage_ : float
        lambda, the number that is added to the diagonal.
    relative_shrinkage_ : float
        lambda / mean eigenvalue of `covariance_`.
    shrinkage_path_ : ShrinkagePath or None
        What "auto" compared: `criterion`, `relative_shrinkage`, `score`, `chosen`.
    n_components_ : int
        Dimensions of phi, K.
    kept_variance_ : float
        Share of the trace of `covariance_` in the directions that were kept; 1 without
        `n_components`.
    n_rows_ : int

    Examples
    --------
    >>> import numpy as np
    >>> import cliquesim as cs
    >>> frames = np.random.default_rng(0).integers(0, 256, (50, 40, 40, 3), dtype=np.uint8)
    >>> whitening = cs.Whitening(estimator="stationary", shrinkage=1.0)
    >>> whitening.fit_transform(cs.hog(frames)).shape
    (50, 279)
    """

    mean_: NDArray[np.float64]
    covariance_: NDArray[np.float64]
    shrinkage_: float
    relative_shrinkage_: float
    shrinkage_path_: ShrinkagePath | None
    n_components_: int
    kept_variance_: float

    def __init__(
        self,
        estimator: str = "full",
        shrinkage: str | float = "auto",
        common_mean: bool = False,
        num_threads: int | None = None,
        n_components: int | float | None = None,
        device: str = "cpu",
    ) -> None:
        self.estimator = estimator
        self.shrinkage = shrinkage
        self.common_mean = common_mean
        self.num_threads = num_threads
        self.n_components = n_components
        self.device = device
        self._forget()

    def _forget(self) -> None:
        self.n_rows_ = 0
        self._shape: tuple[int, ...] | None = None
        self._moments: Moments | None = None
        self._sample: StretchSample | None = None
        self._outdate()

    def _outdate(self) -> None:
        self._projection: NDArray[np.float32] | None = None
        for name in _FITTED:
            self.__dict__.pop(name, None)

    # scikit-learn's habits

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor arguments by name."""
        return {name: getattr(self, name) for name in _PARAMETERS}

    def set_params(self, **params: Any) -> Whitening:
        """Change constructor arguments; they take effect at the next fit.

        Raises
        ------
        InputError
            Unknown name.
        """
        for name, value in params.items():
            if name not in _PARAMETERS:
                raise InputError(f"Whitening has no parameter {name!r}; it has {_PARAMETERS}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        return f"Whitening({', '.join(f'{k}={v!r}' for k, v in self.get_params().items())})"

    def __getattr__(self, name: str) -> Any:
        # Factorising waits until somebody asks, so that partial_fit stays cheap.
        if name in _FITTED and self.__dict__.get("_moments") is not None:
            self._finish()
            return self.__dict__[name]
        hint = "; call fit first" if name in _FITTED else ""
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}")

    # fitting

    def fit(
        self,
        X: ArrayLike,
        groups: ArrayLike | None = None,
        progress: Progress = None,
    ) -> Whitening:
        """Estimate mean, covariance and lambda.

        Parameters
        ----------
        X : array (N, D) or (N, h, w, channels)
            Any real dtype, may be memory-mapped: it is read in blocks. With ``device="cuda"`` it
            may be a CUDA tensor.
        groups : int array (N,), optional
            Sequence of each row, used by ``shrinkage="auto"``. Rows of one sequence that follow
            each other are successive frames. Mirrored copies carry the number of their original.
        progress : callable, optional
            Gets the finished share, 0 to 1.

        Raises
        ------
        InputError
            Fewer than 2 rows, NaN or inf (the row is named), all rows equal, a covariance that is
            singular with ``shrinkage=0``, or a shape that does not suit the estimator.
        RunError
            CUDA cannot be used, or its memory does not suffice; the message says why.
        """
        self._forget()
        self.partial_fit(X, groups, progress)
        self._finish()
        return self

    def partial_fit(
        self,
        X: ArrayLike,
        groups: ArrayLike | None = None,
        progress: Progress = None,
    ) -> Whitening:
        """Add rows to the moments; the result is that of one `fit` on all rows.

        Only the choice of ``shrinkage="auto"`` may differ: it looks at a random sample of stretches
        of at most 64 rows, and a stretch does not span two calls. After an error the whitening is
        not fitted.
        """
        self._check_params()
        array = self._as_rows(X)
        labels = as_groups(groups, len(array))
        if self._projection is not None and self._moments is None:
            raise InputError("a Whitening from from_state cannot be fitted further; call fit")
        if len(array) == 0:
            return self
        self._outdate()
        try:
            if self._moments is None:
                self._moments = Moments(array)
            if self.device == "cuda":
                self._moments.add_on_cuda(array, progress)
            else:
                self._moments.add(array, as_threads(self.num_threads), progress)
        except BaseException:
            self._forget()  # half of the rows would be a wrong answer
            raise
        self.n_rows_ = self._moments.n_rows
        if self.shrinkage == "auto":
            if self._sample is None:
                self._sample = StretchSample()
            self._sample.add(array, labels)
        return self

    def _check_params(self) -> None:
        check_device(self.device, "whitening")
        as_choice(self.estimator, "estimator", ("full", "stationary"))
        if self.shrinkage != "auto":
            if isinstance(self.shrinkage, str):
                raise InputError(f"shrinkage must be 'auto' or a number, got {self.shrinkage!r}")
            as_real(self.shrinkage, "shrinkage", minimum=0.0)
        as_threads(self.num_threads)
        if self.n_components is not None:
            if isinstance(self.n_components, float):
                as_real(self.n_components, "n_components", minimum=0.0)
                if not 0 < self.n_components < 1:
                    raise InputError(
                        "n_components must be a whole number or a share between 0 and 1, "
                        f"got {self.n_components}"
                    )
            else:
                as_count(self.n_components, "n_components", minimum=1)
        if self.common_mean and self.estimator != "stationary":
            raise InputError("common_mean=True needs estimator='stationary'")

    def _as_rows(self, X: Any) -> Any:
        """View of X as (N, D); remembers or checks the shape of a descriptor."""
        if self.device == "cuda" and on_cuda(X):
            array, real = X.detach(), not X.is_complex()
        else:
            array = np.asarray(X)
            real = array.dtype.kind in "fiub"
        if not real:
            raise InputError(f"X must be an array of real numbers, got dtype {array.dtype}")
        if array.ndim not in (2, 4) or 0 in array.shape[1:]:
            raise InputError(
                f"X must have shape (N, D) or (N, h, w, channels), got {tuple(array.shape)}"
            )
        shape = tuple(array.shape[1:])
        if self._shape is None:
            if self.estimator == "stationary" and array.ndim == 2:
                raise InputError(
                    "estimator='stationary' needs descriptors of shape (N, h, w, channels), "
                    f"got {tuple(array.shape)}"
                )
            self._shape = shape
        elif shape != self._shape and not (array.ndim == 2 and shape[0] == self._dimensions):
            raise InputError(
                f"X has descriptors of shape {shape}, but the whitening was fitted on {self._shape}"
            )
        return array.reshape(len(array), self._dimensions)

    @property
    def _dimensions(self) -> int:
        assert self._shape is not None
        return int(np.prod(self._shape))

    def _finish(self) -> None:
        """Covariance, lambda and projection from the moments."""
        if self._projection is not None:
            return
        if self._moments is None:
            raise InputError("this Whitening is not fitted; call fit first")
        if self.n_rows_ < 2:
            raise InputError(f"whitening needs at least 2 rows, got {self.n_rows_}")
        threads = as_threads(self.num_threads)
        if self.estimator == "stationary":
            assert self._shape is not None
            rows, cols, channels = self._shape
            mean, covariance = self._moments.estimate_stationary(
                (rows, cols, channels), self.common_mean, threads
            )
        else:
            mean, covariance = self._moments.estimate()
        mean_eigenvalue = float(np.trace(covariance)) / len(covariance)
        if mean_eigenvalue <= 0:
            raise InputError(
                f"all {self.n_rows_} rows of X are equal: there is no variance to whiten"
            )
        path = None
        if self.shrinkage == "auto":
            path = self._choose(mean, covariance, mean_eigenvalue)
            relative = path.chosen
        else:
            relative = float(self.shrinkage)
        projection, kept = self._project(covariance, relative * mean_eigenvalue)
        if projection is None:
            raise InputError(
                f"the covariance of {self.n_rows_} rows in {len(mean)} dimensions is singular; "
                f"shrinkage={relative:g} must be larger"
                + ("" if self.n_components is None else ", or n_components smaller")
            )
        self.mean_, self.covariance_, self._projection = mean, covariance, projection
        self.n_components_, self.kept_variance_ = projection.shape[1], kept
        self.shrinkage_ = relative * mean_eigenvalue
        self.relative_shrinkage_ = relative
        self.shrinkage_path_ = path

    def _project(
        self, covariance: NDArray[np.float64], ridge: float
    ) -> tuple[NDArray[np.float32] | None, float]:
        """P with phi = (h - mu) P, and the share of the variance that it keeps."""
        if self.n_components is None:
            threads = as_threads(self.num_threads)
            return triangular_projection(covariance, ridge, threads), 1.0
        count = self.n_components
        if not isinstance(count, float):
            count = int(count)
            if count > len(covariance):
                raise InputError(
                    f"n_components={count} is more than the {len(covariance)} dimensions of X"
                )
        return principal_projection(covariance, ridge, count)

    def _choose(
        self,
        mean: NDArray[np.float64],
        covariance: NDArray[np.float64],
        mean_eigenvalue: float,
    ) -> ShrinkagePath:
        if self._sample is None:
            raise InputError("shrinkage='auto' was set after partial_fit; call fit")
        rows, groups, stretches = self._sample.stack()

        def whiten(relative: float) -> NDArray[np.float32]:
            ridge = relative * mean_eigenvalue
            projection = triangular_projection(covariance, ridge, as_threads(self.num_threads))
            assert projection is not None
            whitened = np.empty((len(rows), projection.shape[1]), np.float32)
            self._apply(rows, mean, projection, whitened)
            return whitened

        if self._sample.has_groups:
            path = time_direction(groups, stretches, whiten, threads=as_threads(self.num_threads))
            if path is not None:
                return path
        optimum = ledoit_wolf(rows - mean.astype(np.float32), stretches, covariance, self.n_rows_)
        return ShrinkagePath(
            "Ledoit-Wolf with floor", np.array([optimum]), np.array([np.nan]), max(optimum, FLOOR)
        )

    # using it

    def transform(
        self,
        X: ArrayLike,
        progress: Progress = None,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Whitened descriptors.

        Parameters
        ----------
        X : array (N, D) or (N, h, w, channels)
            With ``device="cuda"`` it may be a CUDA tensor.
        out : float32 array (N, D) or (N, K), C-contiguous, optional
            Where to write (for example a memory-mapped file); not for tensors.

        Returns
        -------
        float32 array (N, D), or (N, K) with ``n_components``
            A torch tensor on its device if X is a CUDA tensor.

        Raises
        ------
        InputError
            Not fitted, another descriptor shape than in `fit`, or NaN or inf.
        RunError
            CUDA cannot be used, or its memory does not suffice; the message says why.
        """
        self._finish()
        check_device(self.device, "whitening")
        assert self._projection is not None
        rows = self._as_rows(X)
        if not isinstance(rows, np.ndarray):
            # A tensor in, a tensor out: the annotation describes arrays.
            tensor: Any = self._apply_to_tensor(rows, self._projection, progress, out)
            return tensor  # type: ignore[no-any-return]
        shape = len(rows), self._projection.shape[1]
        result = np.empty(shape, np.float32) if out is None else as_output(out, shape)
        if self.device == "cuda":
            from cliquesim.features import _whitening_cuda

            centre, device = self.mean_.astype(np.float32), _whitening_cuda.device_of(rows)
            _whitening_cuda.project(rows, centre, self._projection, result, device, progress)
        else:
            self._apply(rows, self.mean_, self._projection, result, progress)
        return result if out is None else out

    def _apply_to_tensor(
        self, rows: Any, projection: NDArray[np.float32], progress: Progress, out: object
    ) -> Any:
        from cliquesim.features import _whitening_cuda

        if out is not None:
            raise InputError("out is for arrays; a whitened tensor is a new tensor")
        result = _whitening_cuda.project_tensor(rows, self.mean_.astype(np.float32), projection)
        if progress is not None:
            progress(1.0)
        return result

    def fit_transform(
        self,
        X: ArrayLike,
        groups: ArrayLike | None = None,
        progress: Progress = None,
    ) -> NDArray[np.float32]:
        """`fit`, then `transform` of the same rows."""
        return self.fit(X, groups, part(progress, 0.0, 0.5)).transform(X, part(progress, 0.5, 1.0))

    def _apply(
        self,
        array: NDArray[Any],
        mean: NDArray[np.float64],
        projection: NDArray[np.float32],
        out: NDArray[np.float32],
        progress: Progress = None,
    ) -> None:
        centre, threads = mean.astype(np.float32), as_threads(self.num_threads)
        for start, chunk in float32_chunks(array):
            stop = start + len(chunk)
            report = part(progress, start / len(array), stop / len(array))
            broken = _core.project(chunk, centre, projection, out[start:stop], threads, report)
            check_row(broken, start, chunk)
            release(out[:stop])

    # keeping it

    def state_dict(self) -> dict[str, Any]:
        """Arrays and JSON scalars from which `from_state` makes an equal transform."""
        self._finish()
        path = self.shrinkage_path_
        covariance = self.__dict__.get("covariance_")  # `from_state` may have left it out
        return {
            **({} if covariance is None else {"covariance": covariance}),
            "parameters": {**self.get_params(), **_HERE},
            "n_rows": self.n_rows_,
            "shape": list(self._shape or ()),
            "shrinkage": self.shrinkage_,
            "relative_shrinkage": self.relative_shrinkage_,
            "criterion": None if path is None else path.criterion,
            "path_relative_shrinkage": np.array([] if path is None else path.relative_shrinkage),
            "path_score": np.array([] if path is None else path.score),
            "kept_variance": self.kept_variance_,
            "mean": self.mean_,
            "projection": self._projection,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Whitening:
        """The inverse of `state_dict`. It transforms; it cannot be fitted further by partial_fit.

        The covariance may be left out: transforming needs the projection alone.

        Raises
        ------
        InputError
            A key is missing or an array has the wrong shape.
        """
        try:
            whitening = cls(**state["parameters"])
            whitening.n_rows_ = int(state["n_rows"])
            whitening._shape = tuple(int(side) for side in state["shape"])
            whitening.mean_ = np.asarray(state["mean"], np.float64)
            if "covariance" in state:
                whitening.covariance_ = np.asarray(state["covariance"], np.float64)
            whitening.shrinkage_ = float(state["shrinkage"])
            whitening.relative_shrinkage_ = float(state["relative_shrinkage"])
            whitening.kept_variance_ = float(state["kept_variance"])
            projection = np.ascontiguousarray(state["projection"], np.float32)
            whitening.shrinkage_path_ = None
            if state["criterion"] is not None:
                whitening.shrinkage_path_ = ShrinkagePath(
                    str(state["criterion"]),
                    np.asarray(state["path_relative_shrinkage"], np.float64),
                    np.asarray(state["path_score"], np.float64),
                    whitening.relative_shrinkage_,
                )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"this is not the state of a Whitening: {error}") from error
        dimensions = whitening._dimensions
        if (
            projection.ndim != 2
            or len(projection) != dimensions
            or whitening.mean_.shape != (dimensions,)
        ):
            raise InputError(
                f"the state of a Whitening has a projection of shape {projection.shape} and a mean "
                f"of shape {whitening.mean_.shape} for descriptors of shape {whitening._shape}"
            )
        whitening.n_components_ = projection.shape[1]
        whitening._projection = projection
        return whitening
