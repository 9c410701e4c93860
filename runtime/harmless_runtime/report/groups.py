"""Summarise the scores of rows that have something in common."""

from dataclasses import dataclass

import numpy as np

from harmless_runtime.report.gather import Gathered

_MOST_GROUPS = 20


@dataclass(frozen=True)
class Group:
    """The scores of the rows of one group: their number, and five quantiles from 5 % to 95 %."""

    name: str
    rows: int
    quantiles: tuple[float, ...]


def groups_of(gathered: Gathered) -> list[Group]:
    """Return the largest groups, the one with the highest median first."""
    sizes = np.bincount(gathered.group, minlength=len(gathered.groups))
    largest = np.argsort(-sizes, kind="stable")[:_MOST_GROUPS].tolist()
    groups = []
    for code in largest:
        own = gathered.scores[gathered.group == code]
        name = gathered.groups[code]
        quantiles = np.quantile(own, [0.05, 0.25, 0.5, 0.75, 0.95])
        groups.append(Group(_shown(name), len(own), tuple(quantiles.tolist())))
    return sorted(groups, key=lambda group: -group.quantiles[2])


def _shown(name: str | None) -> str:
    return "(none)" if name is None else name
