"""What tables and figures ask of rows: selections, group-bys, pairs of methods on the same codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganvas.evaluation.judges import is_same_attribute
from ganvas.evaluation.rows import Frame
from ganvas.evaluation.runner import EvaluationResult
from ganvas.metrics import list_metrics
from ganvas.stats import (
    Estimate,
    bootstrap_mean,
    estimate_proportion,
    is_in_selection_half,
)

MIN_ARRIVED_SHARE = 0.5
"""The share of faces that an editor has to bring to a change, to stand for its family there."""


@dataclass(frozen=True)
class RowAnalysis:
    """The rows of a finished run, with what tables and figures ask of them."""

    result: EvaluationResult

    @cached_property
    def rows(self) -> Frame:
        """All rows."""
        return self.result.rows

    @cached_property
    def parts(self) -> dict[tuple[str, str], Frame]:
        """The rows by protocol and metric."""
        return dict(iter(self.rows.groupby(["protocol", "metric"], observed=True)))

    @cached_property
    def judges(self) -> list[str]:
        """The judges' names, the label scorer's first."""
        return [scale.name for scale in self.result.context.scales]

    def select(self, protocol: str, metric: str, **equal: Any) -> Frame:
        """Return the rows of one metric in one protocol whose columns are ``equal``."""
        rows = self.parts.get((protocol, metric))
        if rows is None:
            return self.rows.iloc[:0]
        for column, value in equal.items():
            rows = rows[rows[column] == (np.float32(value) if column == "change" else value)]
        return rows

    def list_methods(self, *groups: str, family: str = "") -> list[str]:
        """Return the names of the methods of some groups (all but ablations without any), or of a family."""
        entries = [e for e in self.result.entries if e.group in (groups or ("first", "rest"))]
        return [e.name for e in entries if not family or e.family == family]

    def choose_best(self, protocol: str, metric: str, names: Sequence[str], larger: bool, **equal: Any) -> str | None:
        """Return the method of ``names`` that is best on the half of the codes that serves to choose; the first of equals.

        Of those that reached the target on enough of these codes, where any did: an editor that hardly ever arrives has the
        drift and the identity of its easiest faces.
        """
        rows = self.select(protocol, metric, **equal)
        rows = rows[is_in_selection_half(to_tensor(rows["code_id"])).numpy()]
        every = list_metrics()[metric].every_code
        means, often = {}, set()
        for name in names:
            mine = rows[rows["method"] == name]
            values = (mine if every else mine[mine["reached"]])["value"].dropna()
            if len(values):
                means[name] = float(values.mean()) * (1 if larger else -1)
                often |= {name} if every or mine["reached"].mean() >= MIN_ARRIVED_SHARE else set()
        means = {name: mean for name, mean in means.items() if name in often} or means
        return max(means, key=lambda name: means[name]) if means else None

    def pair(self, protocol: str, metric: str, a: str, b: str, **equal: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the values of two methods on the same codes, and the codes, of those that didn't serve to choose.

        Only codes that both brought there, unless the metric is of every code.
        """
        rows = self.select(protocol, metric, **equal)
        rows = rows[~is_in_selection_half(to_tensor(rows["code_id"])).numpy()]
        if not list_metrics()[metric].every_code:
            rows = rows[rows["reached"]]
        sides = [rows[rows["method"] == name].set_index("code_id")["value"] for name in (a, b)]
        both = sides[0].to_frame("a").join(sides[1].to_frame("b"), how="inner").sort_index().reset_index()
        return to_tensor(both["a"]), to_tensor(both["b"]), to_tensor(both["code_id"])

    def pivot_changes(self, method: str, change: float, **equal: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return a method's signed changes of what wasn't asked for, (n, attributes), the codes, and the edited attributes."""
        rows = self.select("equal", "change", method=method, change=change, **equal)
        rows = rows[rows["reached"] & rows["attribute"].isin(self.result.attributes)]
        pairs = rows[["attribute", "of"]].drop_duplicates().itertuples(index=False)
        entailed = {(attribute, of) for attribute, of in pairs if is_same_attribute(attribute, of)}
        others = [pair not in entailed for pair in zip(rows["attribute"], rows["of"], strict=True)]
        rows = rows[np.array(others, dtype=bool)]
        wide = rows.astype({"attribute": str, "of": str}).pivot(
            index=["attribute", "code_id"], columns="of", values="value"
        )
        index = wide.index.to_frame(index=False)
        changes = torch.from_numpy(wide.to_numpy(np.float64).copy())
        return changes, to_tensor(index["code_id"]), encode_texts(index["attribute"])

    def estimate(self, protocol: str, metric: str, rows: Frame | None = None, **equal: Any) -> Estimate:
        """Estimate one metric of the selected rows, over its own denominator; attributes weigh alike."""
        chosen: Frame = self.select(protocol, metric, **equal) if rows is None else rows
        registered = list_metrics().get(metric)
        if registered is None or not registered.every_code:
            chosen = chosen[chosen["reached"]]
        function = estimate_proportion if registered is not None and registered.share else bootstrap_mean
        return function(to_tensor(chosen["value"]), to_tensor(chosen["code_id"]), encode_texts(chosen["attribute"]))


def to_tensor(column: Frame) -> Tensor:
    """Return a column of numbers."""
    values = column.to_numpy()
    return torch.from_numpy(values.astype(np.float64 if values.dtype.kind == "f" else np.int64))


def encode_texts(column: Frame) -> Tensor:
    """Return a number for each text, in the order of texts."""
    return torch.from_numpy(np.unique(column.astype(str).to_numpy(), return_inverse=True)[1].astype(np.int64))
