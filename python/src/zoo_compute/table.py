"""Rows and columns, as pandas takes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import pandas

Row = dict[str, Any]
# Rows that are shown; of more, the last.
SHOWN_MAX = 60


class Table(Sequence[Row]):
    """A list of rows, each a dict with the same keys. `pandas.DataFrame(table)` works, and so does `to_pandas()`."""

    def __init__(self, rows: Iterable[Row], columns: Sequence[str]) -> None:
        """The rows, and their keys in order."""
        self.columns = list(columns)
        self.rows = [{column: row[column] for column in self.columns} for row in rows]

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> Table: ...
    def __getitem__(self, at: int | slice) -> Row | Table:
        """A row, or a table of some."""
        return Table(self.rows[at], self.columns) if isinstance(at, slice) else self.rows[at]

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    def __eq__(self, other: object) -> bool:
        """Whether they say the same."""
        return isinstance(other, Table) and (self.columns, self.rows) == (other.columns, other.rows)

    __hash__ = None  # type: ignore[assignment]

    def column(self, name: str) -> list[Any]:
        """The values of a column."""
        return [row[name] for row in self.rows]

    def to_pandas(self) -> pandas.DataFrame:
        """As a data frame; also with its columns where there are no rows."""
        import pandas

        frame: pandas.DataFrame = pandas.DataFrame(self.rows, columns=self.columns)
        return frame

    def __repr__(self) -> str:
        """As text, columns under each other."""
        cells = [self.columns, *([_shown(row[name]) for name in self.columns] for row in self.rows[-SHOWN_MAX:])]
        widths = [max(len(line[at]) for line in cells) for at in range(len(self.columns))]
        lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in cells]
        left_out = len(self) - SHOWN_MAX
        return "\n".join([*lines, *([f"({left_out} rows before these)"] if left_out > 0 else [])])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        rows = (
            "".join(f"<td>{escape(_shown(value))}</td>" for value in row.values()) for row in self.rows[-SHOWN_MAX:]
        )
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    text = str(value)
    return text if len(text) <= 16 else f"{text[:10]}.."
