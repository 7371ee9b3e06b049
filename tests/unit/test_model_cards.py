"""The cards of the shipped models belong to the files that ship."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from xearth.data.sources import samples
from xearth.forecasting.io import ARTIFACTS, load, shipped
from xearth.verification.scores.indices import nino_index

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "docs" / "models"
sys.path.insert(0, str(ROOT / "ci"))

from enso_cards import words  # noqa: E402

pytestmark = pytest.mark.skipif(not CARDS.is_dir(), reason="the documentation is not here")


# what makes the cards: scripts of their own, of all others ci/enso
MAKERS = {
    "enso-diffusion": "ci/enso_diffusion_card.py",
    "nowcast-small": "ci/nowcast_card.py",
    "prediff-small": "ci/prediff_card.py",
}


@pytest.mark.parametrize("name", shipped())
def test_the_card_was_made_of_the_file_that_ships(name):
    card = (CARDS / f"{name}.rst").read_text(encoding="utf-8")
    (stated,) = re.findall(r"sha256\s+``(\w+)``", card)
    found = hashlib.sha256((ARTIFACTS / f"{name}.safetensors").read_bytes()).hexdigest()
    assert found.startswith(stated), f"run: {MAKERS.get(name, 'ci/enso')}"


def test_the_shipped_file_forecasts_what_its_card_says():
    card = (CARDS / "enso-small.rst").read_text(encoding="utf-8")
    start, values = re.search(r"``(\d{4}-\d\d): ([^`]*) K``", card).groups()
    sst = samples.open("kaplan_sst").load()
    index = nino_index(load("enso-small").forecast(sst, init=start)).squeeze("init")
    stated = [float(value) for value in values.split()]
    np.testing.assert_allclose(index.sel(lead=[3, 6, 9, 12]), stated, atol=2e-3)


def test_figures_and_pages_stay_small():
    assert sum(path.stat().st_size for path in CARDS.glob("*.png")) < 300_000


def test_headings_of_a_fragment_go_below_a_section():
    text = ".. written by a script\n\nTables\n======\n\nOne\n---\n\nwords\n\n- a\n- b\n"
    assert words.demoted(text).splitlines()[:5] == ["Tables", "~~~~~~", "", "One", "^^^"]
    assert words.demoted("plain\n\n.. list-table::\n\n   * - a\n") == (
        "plain\n\n.. list-table::\n\n   * - a"
    )


def test_leads_and_intervals_in_words():
    assert words.leads_in_words([2, 3, 4], [2, 3, 4]) == "every lead 2-4"
    assert words.leads_in_words([2, 4], [2, 3, 4]) == "the leads 2 and 4"
    assert words.leads_in_words([3], [2, 3, 4]) == "lead 3"
    assert words.leads_in_words([], [2, 3, 4]) == "none of the leads 2-4"
    assert words.interval(-0.001, -0.2, 0.1, "+") == "+0.00 [-0.20, +0.10]"
    assert words.interval(np.nan, 0, 0) == "-"
