"""What was measured, as rows: for the terminal, as JSON, and as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Reading:
    """The same thing, measured so many times."""

    values: Sequence[float]
    unit: str = "s"

    @property
    def median(self) -> float:
        return median(self.values)

    def __str__(self) -> str:
        """The median; where there are several values, also the least, the greatest, and how many."""
        shown = f"{_short(self.median)} {self.unit}"
        if len(self.values) == 1:
            return shown
        return f"{shown} ({_short(min(self.values))}–{_short(max(self.values))}, {len(self.values)}×)"


@dataclass(frozen=True)
class Row:
    """`theirs`: the peer or floor that `against` names. `target`: of the ratio; of our own median where there is no peer."""

    what: str
    ours: Reading
    against: str = ""
    theirs: Reading | None = None
    target: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours through theirs, by the medians."""
        return self.ours.median / self.theirs.median if self.theirs and self.theirs.median else None

    @property
    def met(self) -> bool | None:
        """None where there is no target."""
        if self.target is None:
            return None
        reached = self.ours.median if self.theirs is None else self.ratio
        return reached is not None and reached <= self.target

    def cells(self) -> list[str]:
        """One text a column of HEADINGS."""
        unit = f" {self.ours.unit}" if self.theirs is None else ""
        return [
            self.what,
            str(self.ours),
            f"{self.against}: {self.theirs}" if self.theirs else self.against,
            "" if self.ratio is None else f"{self.ratio:.2f}",
            "" if self.target is None else f"≤ {_short(self.target)}{unit}",
            "" if self.met is None else "met" if self.met else "**missed**",
        ]

    def told(self) -> dict[str, Any]:
        """JSON values; `read` is the way back."""
        theirs = None if self.theirs is None else vars(self.theirs)
        return {**vars(self), "ours": vars(self.ours), "theirs": theirs, "ratio": self.ratio, "met": self.met}


HEADINGS = ("what", "ours", "against", "ratio", "target", "")


def read(told: Mapping[str, Any]) -> Row:
    theirs = Reading(**told["theirs"]) if told["theirs"] else None
    return Row(told["what"], Reading(**told["ours"]), told["against"], theirs, told["target"])


def markdown(rows: Sequence[Row], machine: Mapping[str, str]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (HEADINGS, ["---"] * len(HEADINGS), *(row.cells() for row in rows))]
    return "\n".join([*lines, "", *_wrapped("Measured on: " + "; ".join(f"{k} {v}" for k, v in machine.items()) + ".")])


def _wrapped(text: str, width: int = 127) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + len(word) >= width:
            yield line
            line = ""
        line += f" {word}" if line else word
    yield line


def _short(number: float) -> str:
    """Three digits that count."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
