"""Rebuild the tables, the figures and the card of enso-small from what the package ships.

    python ci/enso_card.py                 # writes docs/models/enso-small.rst and its figures
    python ci/enso_card.py --out elsewhere

Reads the sample data and the shipped file alone, runs every forecast anew, and states for each
number the years, the protocol and the uncertainty. Tables that the training scripts left in the
folder (``enso-small-table.rst``, ``enso-multi-table.rst``) go into the card as they are. A few
minutes on one core.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from enso_cards.case import NAME, forecasts
from enso_cards.figures import figures
from enso_cards.pages import card, multi_card
from enso_cards.tables import measured

from xearth.data.sources import samples
from xearth.forecasting.io import ARTIFACTS, load, shipped

OUT = Path(__file__).parents[1] / "docs" / "models"


def main() -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the cards")
    folder: Path = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    path = ARTIFACTS / f"{NAME}.safetensors"
    sst, model = samples.open("kaplan_sst").load(), load(NAME)
    case = forecasts(model, sst)
    tables = measured(case)
    figures(case, tables, folder)
    write(folder / f"{NAME}.rst", card(case, tables, path, folder))
    if "enso-multi" in shipped():
        write(folder / "enso-multi.rst", multi_card(folder))
    print(f"done in {time.perf_counter() - begin:.0f} s")


def write(path: Path, text: str) -> None:
    """Write a page whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
