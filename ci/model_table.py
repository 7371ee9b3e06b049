"""The two tables that Earthformer was published with, from the networks of this package.

Parameters and costs are computed, for the very shapes of the tables; what was published stands
beside them. Scores are those that were published, for neither data set can be had here; our own in
miniature, which ``compare_networks.py`` made, stand beside them.

    python ci/model_table.py                                         # prints the tables
    python ci/model_table.py --out docs/models/seed-tables.rst       # and writes the page
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enso_table import listed, plain

from xearth.models.baselines.convlstm import ConvLSTMConfig
from xearth.models.baselines.e3d_lstm import E3DLSTMConfig
from xearth.models.baselines.persistence import PersistenceConfig
from xearth.models.baselines.phydnet import PhyDNetConfig
from xearth.models.baselines.predrnn import PredRNNConfig
from xearth.models.baselines.rainformer import RainformerConfig
from xearth.models.baselines.simvp import SimVPConfig
from xearth.models.baselines.unet import UNetConfig
from xearth.models.config import EarthformerConfig
from xearth.models.describe import Part

#: Part of a published number that another may differ by and still be the same thing counted.
SAME = 0.15


@dataclass(frozen=True)
class Row:
    """One network and what was published of it; millions, billions, and scores as printed."""

    name: str
    config: Callable[[], Any]
    parameters: str = ""
    gflops: str = ""
    scores: Mapping[str, str] = field(default_factory=dict)


def _scores(*values: str, names: Iterable[str]) -> dict[str, str]:
    return {name: value for name, value in zip(names, values, strict=True) if value}


SEVIR_SCORES = ("CSI-M", "CSI-219", "CSI-181", "MSE (1e-3)")
ENSO_SCORES = ("C-Nino3.4-M", "C-Nino3.4-WM", "MSE (1e-4)")


def _sevir(*values: str) -> dict[str, str]:
    return _scores(*values, names=SEVIR_SCORES)


def _enso(*values: str) -> dict[str, str]:
    return _scores(*values, names=ENSO_SCORES)


#: Gao et al. (2022), as far as a second source confirms the number.
SEVIR = (
    Row("Persistence", PersistenceConfig.sevir, "-", "-",
        _sevir("0.2613", "0.0526", "0.0969", "11.5338")),
    Row("UNet", UNetConfig.sevir, "16.6", "33", _sevir("0.3593", "", "", "")),
    Row("ConvLSTM", ConvLSTMConfig.sevir, "14.0", "527", _sevir("0.4185", "0.1288", "", "3.75")),
    Row("PredRNN", PredRNNConfig.sevir, "46.6", "328", _sevir("0.4080", "0.1312", "", "3.90")),
    Row("PhyDNet", PhyDNetConfig.sevir, "13.7", "701", _sevir("0.3940", "", "", "")),
    Row("E3D-LSTM", E3DLSTMConfig.sevir, "35.6", "523", _sevir("0.4038", "", "", "")),
    Row("Rainformer", RainformerConfig.sevir, "184.0", "170", _sevir("0.3661", "", "", "")),
    Row("Earthformer without global vectors",
        lambda: EarthformerConfig.sevir_table(global_vectors=False), "13.1", "257",
        _sevir("0.4356", "", "", "")),
    Row("Earthformer", EarthformerConfig.sevir_table, "15.1", "257",
        _sevir("0.4419", "0.1791", "", "3.6957")),
    Row("SimVP-gSTA (not in the table)", SimVPConfig.sevir),
)  # fmt: skip
ENSO = (
    Row("Persistence", PersistenceConfig.icar_enso, "-", "-", _enso("0.3221", "0.447", "4.581")),
    Row("UNet", UNetConfig.icar_enso, "12.1", "0.4"),
    Row("ConvLSTM", ConvLSTMConfig.icar_enso, "14.0", "11.1"),
    Row("PredRNN", PredRNNConfig.icar_enso, "23.8", "85.8"),
    Row("PhyDNet", PhyDNetConfig.icar_enso, "3.1", "5.7"),
    Row("E3D-LSTM", E3DLSTMConfig.icar_enso, "12.9", "99.8"),
    Row("Rainformer", RainformerConfig.icar_enso, "19.2", "1.3"),
    Row("Earthformer without global vectors",
        lambda: EarthformerConfig.icar_enso_table(global_vectors=False), "6.6", "23.6"),
    Row("Earthformer", EarthformerConfig.icar_enso_table, "7.6", "23.9",
        _enso("0.7329", "2.259", "2.546")),
    Row("SimVP-gSTA (not in the table)", SimVPConfig.icar_enso),
)  # fmt: skip

#: What ``compare_networks.py`` wrote, and which of it stands in the tables: data, score, label, unit.
MINIATURE = Path(__file__).parents[1] / "docs" / "models" / "comparison.json"
OWN = (
    ("nbody", "mse", "digits MSE (1e-3), own", 1e-3),
    ("radar", "mse", "radar MSE, own", 1.0),
    ("radar", "csi 1", "radar CSI 1 mm/h, own", 1.0),
)

COSTS = ("network", "parameters", "published (M)", "GMAC", "GFLOP", "published GFLOPs", "which are")


def verdict(cost: Part, published: str) -> str:
    """Return what a published number of operations counts, and how far ours is from it."""
    if published in {"", "-"}:
        return ""
    number = float(published)
    ours = {"MAC": cost.macs / 1e9, "FLOP": cost.flops / 1e9}
    apart = {what: one / number - 1 for what, one in ours.items()}
    what = min(apart, key=lambda name: abs(apart[name]))
    if abs(apart[what]) > SAME:
        return "neither"
    return f"{what} ({100 * apart[what]:+.1f} %)"


def cells(row: Row, scores: Iterable[str]) -> list[str]:
    """Return a row as text, its costs computed."""
    cost = row.config().describe().total
    return [
        row.name,
        f"{cost.parameters:,}",
        row.parameters,
        f"{cost.macs / 1e9:.4g}",
        f"{cost.flops / 1e9:.4g}",
        row.gflops,
        verdict(cost, row.gflops),
        *(row.scores.get(name, "") for name in scores),
    ]


def own(found: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return our own scores of each network in miniature, at equal time, as text."""
    cells: dict[str, list[str]] = {}
    for row in found["rows"]:
        if row["budget"] in (None, "time"):
            line = cells.setdefault(row["network"], [""] * len(OWN))
            for k, (data, score, _, unit) in enumerate(OWN):
                if row["data"] == data:
                    line[k] = f"{row['scores'][score]['interval'][0] / unit:.3g}"
    return cells


PAGE = """\
The tables of the paper, from our networks
==========================================

.. This page is written by ci/model_table.py; do not edit it.

Every network of the two tables that Earthformer was published with, built for the shapes of the
tables. **Computed**: parameters that are learned, and the operations of one forecast of one sample
(:func:`xearth.models.describe.describe`); a multiply-accumulate (MAC) is two floating-point
operations (FLOP). **Published, not reproduced**: the columns that say so and all scores, from Gao
et al. (2022). Neither data set can be had here, so no score of these tables was made by this
package; where a cell is empty, no second source confirms the number. **Own**: scores of small
networks of each kind after equally many seconds of training, on digits that attract each other and on
crops of radar images, as :doc:`comparison` tells; they are no reproduction of the published ones.

The published column "GFLOPs" mixes two units: it holds MACs for UNet, ConvLSTM, PhyDNet, Rainformer
and Earthformer, and FLOPs for PredRNN and E3D-LSTM, which therefore look twice as expensive beside
the others as they are. The column *which are* says so, with the difference of our count.

.. code-block:: bash

   python ci/model_table.py --out docs/models/seed-tables.rst

SEVIR
-----

13 frames of 384 x 384 cells in, 12 out, 5 minutes apart.

{sevir}

{sevir_scores}

ICAR-ENSO
---------

12 months of 24 x 48 cells in, 14 out.

{enso}

{enso_scores}

No network was trained in miniature on the ocean. Scores of the ENSO table on the real one, of
forecasters that come with the package, are in :doc:`enso-seed-table`.

What to mind
------------

- The tables' Earthformers have depths of 2 and 2 (SEVIR) and 4 and 4 (ICAR-ENSO). The checkpoints
  that were published are smaller networks, ``EarthformerConfig.sevir()`` with 8.7 million and
  ``EarthformerConfig.icar_enso()`` with 1.4 million parameters; the scores are not theirs.
- ConvLSTM: how its layers are wired and their strides are not published. The parameters agree, the
  operations on ICAR-ENSO do not quite.
- PhyDNet: the parameters agree with hidden sizes of 256, 256, 256 and 64, and no working resolution
  gives 701 billion operations with them. With the sizes of the other table it would be 696 (MACs):
  the cell is probably of another network than the one beside it.
- Rainformer: 77 of its 184 million parameters on SEVIR never receive a gradient; its plain
  constructor leaves them out.
- SimVP-gSTA is not in the tables; it is here as a strong network of low cost. Published code makes
  as many frames as it reads and drops one; with 13 of them it has 10,544,241 parameters and 38.78
  GMAC on SEVIR, where ours, which makes 12, has the numbers above.
"""


def table(rows: Iterable[Row], scores: tuple[str, ...]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows."""
    header = [*COSTS, *(f"{name}, published" for name in scores)]
    return header, [cells(row, scores) for row in rows]


def with_own(
    header: list[str], body: list[list[str]], found: Mapping[str, Any]
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows with our own scores in miniature beside the published ones."""
    ours, nothing = own(found), [""] * len(OWN)
    lines = [[*line, *ours.get(line[0].split(" (")[0], nothing)] for line in body]
    return [*header, *(label for _, _, label, _ in OWN)], lines


def halves(key: str, header: list[str], body: list[list[str]]) -> dict[str, str]:
    """Return costs, and scores of the rows that have any, as tables of the page."""
    n = len(COSTS)
    scored = [[line[0], *line[n:]] for line in body if any(line[n:])]
    return {
        key: listed(header[:n], [line[:n] for line in body]),
        f"{key}_scores": listed([header[0], *header[n:]], scored),
    }


def main() -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="page of reStructuredText to write")
    arguments = parser.parse_args()
    pages = {}
    for key, rows, scores in (("sevir", SEVIR, SEVIR_SCORES), ("enso", ENSO, ENSO_SCORES)):
        header, body = table(rows, scores)
        if key == "sevir":
            header, body = with_own(header, body, json.loads(MINIATURE.read_text("utf-8")))
        print(f"\n{key}\n\n{plain(header, body)}", flush=True)
        pages |= halves(key, header, body)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        temporary = arguments.out.with_suffix(".tmp")
        temporary.write_text(PAGE.format(**pages), encoding="utf-8")
        os.replace(temporary, arguments.out)
        print(f"\nwrote {arguments.out}")


if __name__ == "__main__":
    main()
