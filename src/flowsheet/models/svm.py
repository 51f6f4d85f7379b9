"""Support vector machine, linear or with a Gaussian kernel, with calibrated probabilities."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from flowsheet.config import FloatRange, Space
from flowsheet.models._newton import Chunk, minimise, predictor, squared_hinge
from flowsheet.models._platt import Platt
from flowsheet.models._row_matrix import Matrix
from flowsheet.models._rows import InputParams, RowContributions, RowModel, Rows, need_reference
from flowsheet.models.base import MODELS, Capabilities, Context, ModelFamily
from flowsheet.typing import Floats, Floats32


@MODELS.register("svm")
class SVM(RowModel):
    """A maximum-margin classifier for up to 500,000 rows.

    An exact kernel machine needs memory for the square of that number. The Gaussian kernel
    exp(-g |x - z|^2) is therefore approximated by ``components`` random Fourier features (Rahimi
    and Recht 2007), and the machine is linear in them and in the inputs; with ``kernel: linear``
    it is linear in the inputs alone. Minimises the mean squared hinge loss, with equal weights of
    the two classes, + l2 |w|^2 / 2, by Newton's method in the primal (Chapelle 2007). Platt's curve
    on the validation rows turns margins into probabilities.
    """

    title = "SVM"

    class Params(InputParams):
        """Parameters."""

        kernel: Literal["linear", "gaussian"] = "gaussian"
        """A linear margin, or a curved one at several times the cost."""
        components: Annotated[int, Field(ge=1)] = 256
        """Random Fourier features that approximate the Gaussian kernel."""
        width: Annotated[float, Field(gt=0)] = 0.3
        """g times the number of inputs: the larger, the more curved the margin."""
        l2: Annotated[float, Field(gt=0)] | None = None
        """Strength of the penalty, relative to the mean loss of a row; null: by the size of the
        cohort."""
        history: bool = False
        """Take the known past responses as inputs (unknown ones as 0)."""

    capabilities = Capabilities(
        family=ModelFamily.non_temporal, input_description="the current row"
    )
    space: ClassVar[Space] = {
        "l2": FloatRange(low=1e-5, high=1.0, log=True),
        "width": FloatRange(low=0.03, high=1.0, log=True),
    }
    size_rules = MappingProxyType({"l2": lambda size: size.margin_penalty})
    version = 4
    saved_version = 2

    directions: Floats32  # (D, components), none for the linear kernel
    phases: Floats32  # (components,)
    coef: Floats  # (1 + D + components,)
    platt: Platt

    def fit_rows(self, train: Rows, valid: Rows, context: Context) -> None:
        """Draw the random features, fit the margin, calibrate."""
        inputs = train.x.shape[1]
        self._draw_random_features(inputs, context.seed)
        prevalence = float(train.y.mean())
        weights = np.where(train.y == 1, 0.5 / prevalence, 0.5 / (1 - prevalence))
        penalty = np.full(1 + inputs + len(self.phases), self.params.l2 * len(train.y))
        penalty[0] = 0.0
        solution = minimise(
            train.x, train.y, squared_hinge, penalty, weights=weights, features=self._features
        )
        self.coef = solution.coef
        self.platt = Platt.fit(*((self._margins(part.x), part.y) for part in (valid, train)))

    def predict_rows(self, x: Floats32) -> Floats:
        """Calibrated margins."""
        return self.platt(self._margins(x))

    def explain_rows(self, x: Floats32) -> RowContributions:
        """Integrated gradients (Sundararajan et al. 2017) from the reference row, in full.

        On the straight line between two rows every random feature is a cosine of a linear function,
        whose integral is known; the linear part contributes coefficient * (x - reference).
        """
        reference = need_reference(self.reference, "svm").astype(np.float32)[None]
        slope, distance = self.platt.slope, (x - reference).astype(np.float64)
        weights = np.broadcast_to(self.coef[1 : 1 + x.shape[1]], x.shape)
        if len(self.phases):
            weights = weights + self._mean_gradients(x, reference)
        values = slope * weights * distance
        at_reference = self.platt.intercept + slope * self._margins(reference)[0]
        log_odds = self.platt.intercept + slope * self._margins(x)
        # The features are computed in single precision; what that misses is spread.
        missed = log_odds - at_reference - values.sum(axis=1)
        size = np.abs(values)
        values += size * (missed / np.maximum(size.sum(axis=1), 1e-300))[:, None]
        return RowContributions(np.full(len(x), at_reference), log_odds, values)

    def _mean_gradients(self, x: Floats32, reference: Floats32) -> Floats:
        """Mean gradient of the random features' part on the line to the reference, (n, D)."""
        directions = self.directions.astype(np.float64)
        start = reference @ directions + self.phases
        end = x @ directions + self.phases
        # sin(e) - sin(s) and cos(e) - cos(s) over e - s, without the cancellation where e is near s
        middle, half = (end + start) / 2, (end - start) / 2
        slopes = -np.sin(middle) * np.sinc(half / np.pi)
        amplitude = np.sqrt(2 / len(self.phases))
        return np.asarray((slopes * self.coef[1 + x.shape[1] :] * amplitude) @ directions.T)

    def _margins(self, x: Matrix) -> Floats:
        return predictor(x, self.coef, self._features)

    def _draw_random_features(self, inputs: int, seed: int) -> None:
        size = self.params.components if self.params.kernel == "gaussian" else 0
        rng = np.random.default_rng(seed)
        scale = np.sqrt(2 * self.params.width / inputs)
        self.directions = (scale * rng.normal(size=(inputs, size))).astype(np.float32)
        self.phases = rng.uniform(0, 2 * np.pi, size).astype(np.float32)

    def _features(self, x: Chunk) -> Chunk:
        if not len(self.phases):
            return x
        amplitude = np.float32(np.sqrt(2 / len(self.phases)))
        fourier = np.cos(x @ self.directions + self.phases) * amplitude
        return np.concatenate([x, fourier], axis=1)

    def write(self, folder: Path) -> dict[str, Any]:
        """The random features as arrays; the rest as JSON."""
        np.save(folder / "directions.npy", self.directions, allow_pickle=False)
        np.save(folder / "phases.npy", self.phases, allow_pickle=False)
        return {"coef": self.coef.tolist(), "platt": self.platt.state()}

    def read(self, folder: Path, state: dict[str, Any]) -> None:
        """Restore what :meth:`write` returned."""
        self.directions = np.load(folder / "directions.npy", allow_pickle=False)
        self.phases = np.load(folder / "phases.npy", allow_pickle=False)
        self.coef, self.platt = np.array(state["coef"]), Platt(**state["platt"])
