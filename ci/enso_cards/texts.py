"""The fixed parts of the pages."""

from __future__ import annotations

from .case import NAME

NESTED = """\

.. _enso-small-nested:

Nested choice
-------------

What was chosen for each of these years was chosen without it; written by the script that trains.

{table}
"""


MULTI = """\
enso-multi
==========

.. This page is written by ci/enso_card.py; do not edit it.

Nino3.4 from indices of the upper ocean and of other basins, an ensemble up to {horizon} months ahead.

.. code-block:: python

   import xearth

   indices = xearth.samples.open("xro_indices")
   fc = xearth.forecast(indices, "enso-multi", init="2015-05", members=20)
   fc.Nino34

{model}. The file in the package has the sha256 ``{digest}``.

Data
----

{data}

Training
--------

What the file says of itself:

{training}

How good it is
--------------

{table}

Limits
------

- It reads indices as their authors distribute them, anomalies from the mean and trend of 1979-2024.
  New months need anomalies made in the same way.
- Two dozen years judge it; the intervals say what they can tell. Which of them had a part in
  choosing it, the table under *Training* says; scores on those flatter.

How this page is made
---------------------

.. code-block:: bash

   ci/enso                          # all cards, their tables and figures, from what ships
   python ci/train_enso_multi.py    # the model itself, from scratch
"""


PAGE = """\
enso-small
==========

.. This page is written by ci/enso_card.py; do not edit it.

Sea-surface temperature anomalies of the eastern and central tropical Pacific, an ensemble up to
{horizon} months ahead.

.. code-block:: python

   import xearth

   sst = xearth.samples.open("kaplan_sst")
   fc = sst.earthformer.forecast("enso-small", init="1997-06", members=20)
   fc.earthformer.nino34()

{model}.

Everything on this page is measured by ``ci/enso_card.py`` from the sample data and the file in the
package (sha256 ``{digest}``), which runs all forecasts anew. Mean forecast of Nino3.4 at leads 3, 6,
9 and 12, for a check: ``{check}``.

Protocol
--------

Unless a table says otherwise: Nino3.4 of the {n} starts from {first} to {last}, whose leads
all lie in 1982-2003; Kaplan SST, anomalies from the 1951-1980 means; lead counted from the last
observed month. Correlations are centered and pooled over calendar months. Opponents are fit to
1856-1981. *Single months*: the month at the lead, LIM and CSLIM made of months. *3-month means*: of
the lead and the two months before it, the target of the literature; LIM and CSLIM of
3-month means, from lead 3 on, as shorter leads hold observed months. RMSE and correlation are of the
mean forecast, CRPS (fair) and calibration of {members} members.

In brackets are 95 % intervals of a block bootstrap over starts (1000 resamples, length of blocks
from the data). A difference is :doc:`paired </guide/verification>`: {name} less the opponent at the
same starts, so negative is better for RMSE and CRPS, positive for correlation. *distinguishable?*
says whether it can be told from chance at 5 %; each cell stands alone, and of twenty such tests of
nothing one says yes. Twenty-two years hold some five large events: intervals of correlation at
long leads are wide, and they are those of *these* years.

{where}

What is reached
---------------

On 1982-2003, by the protocol above:

{reached}

.. image:: enso-small-skill.png
   :alt: Correlation of 3-month means and CRPSS against lead, beside the opponents
   :width: 100%

.. image:: enso-small-difference.png
   :alt: Difference of the RMSE of 3-month means from three opponents, with intervals
   :width: 100%

Shaded are 95 % intervals, in the upper figure those of {name} alone.

{shares}

Data
----

{data}

Training
--------

What the file says of itself:

{training}

Splits
------

.. list-table::
   :header-rows: 1

   * - years
     - what saw them
   * - 1856-1981
     - statistics, first guess, weights; opponents
   * - 1982-2003
     - what the table above names under *validation period* and its like: settings, epochs, width.
       The same years are judged here.
   * - after 2003
     - nothing; the sample ends in December 2003, so nothing is judged either

What the leak guard says when these tables are made:

{guard}
{nested}
Skill by lead, 3-month means
----------------------------

RMSE (K), 1982-2003:

{gain}

Correlation, 1982-2003:

{gain_r}

Correlation of each, the opponents side by side, 1982-2003:

{means}

Skill by lead, single months
----------------------------

RMSE (K), 1982-2003:

{single}

Correlation, 1982-2003:

{single_r}

CRPS
----

Fair CRPS (K) of {members} members, single months, 1982-2003. Members of LIM and CSLIM are those of
their own noise, of both kinds of persistence their errors in training, of climatology its years:

{crps}

CRPSS, 1 - CRPS / CRPS of climatology:

{crpss}

Calibration
-----------

{members} members, single months, 1982-2003. Spread / error is corrected for the number of members, 1
is right. Ranks are those of the truth among the first {ranked} members; chance alone leaves a
flatness of {chance} if the {n} starts were independent, and {chance_years} if only the 22 years were.

{calibration}

.. image:: enso-small-calibration.png
   :alt: Coverage and spread over error by lead with intervals, and the rank histogram
   :width: 100%

Bars are 95 % intervals over starts; the gray band counts each start as independent and is therefore
too narrow.

Spring barrier
--------------

Correlation of single months by month of the start, 1982-2003, some 20 starts each; after the
semicolon that of CSLIM-15:

{start}

.. image:: enso-small-start-months.png
   :alt: Correlation by month of the start and lead, four forecasters
   :width: 100%

Hatched cells cannot be told from no skill.

Eras
----

Correlation and RMSE of single months, starts whose leads all lie in the years named. The sample
ends in 2003, so after 2000 there is hardly anything to judge by: some thirty starts of one weak
El Nino.

{era}

What opponents score on many years after 2000 can be seen on the indices of ORAS5, to which this
model cannot be applied. Each half is forecast by what the other half taught, so the first rows have
learned from the future of what they forecast; anomalies are from mean and trend of 1979-2024, so all
rows leak that much. What chose ``enso-multi`` its own card says.

{recharge}

Cost
----

{cost}

Limits
------

- Chosen on the years that judge it, but for what a section on nested choice says. Scores on
  1982-2003 are those of validation years.
- Sea-surface temperature alone. It holds little of the heat below the surface, and what is left of
  the correlation beyond about nine months has intervals that reach far down; there take a
  model with the warm water volume, or the normal.
- Not judged: years after 2003, other products and grids. The Kaplan analysis is smooth, and before
  about 1950 made from few observations.
- It expects anomalies from the 1951-1980 means. Anomalies from other years have other means: make
  them with ``xearth.anomaly(sst, base=("1951", "1980"))``.
- Coverage and spread are those of Nino3.4 of single months, not of cells or of seasonal means.
- The signal of leads beyond a year is partly that of slow trends.

How this page is made
---------------------

.. code-block:: bash

   ci/enso                        # all cards, their tables and figures, from what ships
   python ci/enso_card.py         # this page and its figures; the nested table as it lies there
   ci/train_enso_small            # the model itself, from scratch
""".replace("{name}", NAME)
