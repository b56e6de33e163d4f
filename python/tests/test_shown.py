"""What people see: tables and progress."""

from __future__ import annotations

import io
import sys
import types
from typing import Any

import pytest

from conftest import a_job
from zoo_compute import Table, models
from zoo_compute.progress import Lines, Notebook, Shown, Silent, Terminal, line, shown

ROWS: list[dict[str, Any]] = [
    {"round": 0, "loss": 5.5, "why": None, "extra": 1},
    {"round": 1, "loss": 12345.6, "why": "<b>" * 10, "extra": 2},
]


def a_table() -> Table:
    return Table(ROWS, ("round", "loss", "why"))


def test_a_table_is_rows_and_columns() -> None:
    table = a_table()
    assert (len(table), table.columns) == (2, ["round", "loss", "why"])
    assert table[0] == {"round": 0, "loss": 5.5, "why": None}
    assert table[1:] == Table(ROWS[1:], table.columns) and table[1:] != table
    assert table.column("loss") == [5.5, 12345.6]
    assert next(reversed(table))["round"] == 1


def test_a_table_is_what_pandas_takes() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(a_table())
    assert list(frame.columns) == ["round", "loss", "why"]
    assert frame["loss"].tolist() == [5.5, 12345.6]
    assert frame.equals(a_table().to_pandas())
    assert list(Table([], ("round", "loss")).to_pandas().columns) == ["round", "loss"]


def test_a_table_is_readable_as_text_and_as_html() -> None:
    assert repr(a_table()).splitlines() == [
        "round    loss           why",
        "    0     5.5              ",
        "    1  12,346  <b><b><b><..",
    ]
    assert "<td>&lt;b&gt;&lt;b&gt;" in a_table()._repr_html_() and "<b>" not in a_table()._repr_html_()
    many = Table(({"round": at} for at in range(100)), ("round",))
    assert "(40 rows before these)" in repr(many) and many._repr_html_().count("<tr>") == 61


def job(**more: Any) -> models.Job:
    return models.Job.of(a_job(**more))


def test_a_job_is_one_line() -> None:
    measured = job(of_rounds=4, loss=2.5, bits_per_byte=2.25, tokens_per_second=12345.6, done_ms=0)
    assert line(measured) == (
        "my-model  running  [#####...............]  step 10/40  round 1/4  loss 2.500  2.250 bits/byte  "
        "12,346 tokens/s  about 0:00 left"
    )
    assert line(job(name="a\x1b[2Jb\nc", steps=50, state="budget_used")) == (
        "a?[2Jb?c  budget used  [####################]  step 50/40  round 1"
    )
    assert "[....................]" in line(job(steps=0, of_steps=0))


def test_a_terminal_has_one_line_that_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "31")
    stream = io.StringIO()
    progress = Terminal(stream)
    progress.show(job())
    progress.end(job(state="finished"))
    assert stream.getvalue() == "\rmy-model  running  [#####.....\x1b[K\rmy-model  finished  [#####....\x1b[K\n"


def test_elsewhere_there_is_a_line_now_and_then() -> None:
    stream = io.StringIO()
    progress = Lines(stream, every_s=1000.0)
    for state, steps in (("queued", 0), ("running", 0), ("running", 10), ("running", 20)):
        progress.show(job(state=state, steps=steps))
    done = job(state="finished", steps=40)
    progress.show(done)
    progress.end(done)
    said = [" ".join(said.split()[1:3]) for said in stream.getvalue().splitlines()]
    assert [said.split()[0] for said in said] == ["queued", "running", "finished"]


def test_a_notebook_has_html_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    displayed: list[tuple[object, bool]] = []
    updated: list[object] = []

    class ZMQInteractiveShell:
        pass

    def display(shown: object, display_id: bool) -> types.SimpleNamespace:
        displayed.append((shown, display_id))
        return types.SimpleNamespace(update=updated.append)

    ipython, inner = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = ZMQInteractiveShell  # type: ignore[attr-defined]
    inner.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", inner)
    progress = shown(True)
    assert isinstance(progress, Notebook)
    progress.show(job(name="<script>"))
    progress.end(job(state="finished", steps=40))
    assert [display_id for _, display_id in displayed] == [True] and len(updated) == 1
    first, last = displayed[0][0], updated[0]
    assert isinstance(first, Shown) and isinstance(last, Shown)
    assert "&lt;script&gt;" in first._repr_html_() and "<script>" not in first._repr_html_()
    assert "value='40'" in last._repr_html_() and "finished" in repr(last)


def test_progress_goes_where_people_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert isinstance(shown(False), Silent)
    assert isinstance(shown(True), Lines)
    monkeypatch.setattr(sys, "stderr", types.SimpleNamespace(isatty=lambda: True))
    assert isinstance(shown(True), Terminal)
