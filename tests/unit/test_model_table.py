"""The tables of the paper from our networks: counts against the published ones, and the page."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

CI = Path(__file__).parents[2] / "ci"
sys.path.insert(0, str(CI))

import model_table  # noqa: E402

from xearth.models.describe import Part  # noqa: E402

PAGE = (CI.parent / "docs" / "models" / "seed-tables.rst").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("flops", "published", "expected"),
    [
        (2e9, "1.0", "MAC (+0.0 %)"),
        (2e9, "2.0", "FLOP (+0.0 %)"),
        (2.1e9, "1.0", "MAC (+5.0 %)"),
        (1.9e9, "2.0", "FLOP (-5.0 %)"),
        (9e9, "1.0", "neither"),
        (9e9, "", ""),
        (0, "-", ""),
    ],
)
def test_verdict_tells_the_two_ways_of_counting_apart(flops, published, expected):
    assert model_table.verdict(Part("total", 0, int(flops)), published) == expected


def test_ten_networks_in_the_order_of_the_paper():
    names = [row.name for row in model_table.SEVIR]
    assert names == [row.name for row in model_table.ENSO]
    assert len(set(names)) == 10
    assert names[0] == "Persistence"
    assert names[7:9] == ["Earthformer without global vectors", "Earthformer"]


def test_computed_rows_are_those_of_the_page():
    """The networks that are quick to count; the counts of all are tested with the models."""
    for rows, scores, chosen in (
        (model_table.ENSO, model_table.ENSO_SCORES, (0, 1, 2, 9)),
        (model_table.SEVIR, model_table.SEVIR_SCORES, (0, 2)),
    ):
        for k in chosen:
            made = model_table.cells(rows[k], scores)[: len(model_table.COSTS)]
            lines = [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(made)]
            assert "\n".join(lines) in PAGE
            if rows[k].parameters not in {"", "-"}:
                millions = int(made[1].replace(",", "")) / 1e6
                assert millions == pytest.approx(float(rows[k].parameters), abs=0.051)


def test_published_numbers_are_marked_as_such():
    for rows, scores in (
        (model_table.SEVIR, model_table.SEVIR_SCORES),
        (model_table.ENSO, model_table.ENSO_SCORES),
    ):
        assert all(f"- {name}, published\n" in PAGE for name in scores)
        for row in rows:
            assert set(row.scores) <= set(scores)
            assert all(f"- {value}\n" in PAGE for value in row.scores.values())


def test_the_text_of_the_page_is_that_of_the_command():
    tables = dict.fromkeys(("sevir", "sevir_scores", "enso", "enso_scores"), "")
    text = model_table.PAGE.format(**tables)
    for paragraph in text.split("\n\n"):
        assert paragraph.strip() in PAGE
