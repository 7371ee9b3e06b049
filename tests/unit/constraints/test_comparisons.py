"""Constraints as values: made by comparison, equal by what they say, readable, never a bool."""

from __future__ import annotations

import pint
import pytest

import xearth
from xearth.errors import ConfigError, ConstraintError

Q = xearth.Q


def test_each_comparison_is_the_bound_that_it_reads_as():
    mean = xearth.AreaMean()
    says = "the area mean over the whole domain in each frame is "
    assert str(mean >= Q(8, "mm/h")) == says + "at least 8 mm h-1"
    assert str(mean <= Q(8, "mm/h")) == says + "at most 8 mm h-1"
    assert str(mean == Q(8, "mm/h")) == says + "8 mm h-1"
    assert str(mean.between(Q(1, "mm/h"), Q(2, "mm/h"))) == says + "between 1 mm h-1 and 2 mm h-1"
    near = mean.near(Q(1, "mm/h"), Q(0.5, "mm/h"))
    assert str(near) == says + "1 mm h-1 with a standard deviation of 0.5 mm h-1"
    assert repr(near) == f"<Bound: {near}>"


def test_functionals_are_equal_as_values_and_hash_alike():
    a, b = xearth.AreaMean(xearth.NINO34), xearth.AreaMean(xearth.NINO34)
    assert (a == b) is True
    assert hash(a) == hash(b)
    assert (a != xearth.AreaMean(xearth.NINO3)) is True
    assert (a == xearth.AreaTotal(xearth.NINO34)) is False  # the same fields, another kind
    assert a in [xearth.AreaMean(), b]
    assert len({a, b, xearth.AreaMean()}) == 2
    assert (a == None) is False  # noqa: E711 - the operator is tested


def test_equality_with_a_quantity_is_a_constraint_and_constraints_compare_as_values():
    one = xearth.AreaMean() == Q(8, "mm/h")
    assert isinstance(one, xearth.Constraint)
    assert one == (xearth.AreaMean() == Q(8, "mm/h"))
    assert one != (xearth.AreaMean() == Q(9, "mm/h"))
    assert hash(one) == hash(xearth.AreaMean() == Q(8, "mm/h"))
    assert len({one, xearth.AreaMean() >= Q(8, "mm/h"), one}) == 2


def test_a_quantity_on_the_left_is_refused():
    with pytest.raises(ConstraintError, match="to the right"):
        _ = Q(1, "mm/h") == xearth.AreaMean()


@pytest.mark.parametrize("make", ["__ge__", "__le__", "__eq__"])
@pytest.mark.parametrize("bare", [8, 8.0])
def test_a_bare_number_is_refused_with_the_unit_to_write(make, bare):
    with pytest.raises(ConstraintError, match=rf"Write xearth\.Q\({bare}, 'K'\)"):
        getattr(xearth.Nino34(lead=3), make)(bare)


def test_what_has_no_meaning_is_refused():
    mean = xearth.AreaMean()
    with pytest.raises(ConstraintError, match="neither true nor false"):
        bool(mean >= Q(1, "mm/h"))
    with pytest.raises(ConstraintError, match=">= or <="):
        _ = mean > Q(1, "mm/h")
    with pytest.raises(ConstraintError, match="Swap"):
        mean.between(Q(2, "mm/h"), Q(1, "mm/h"))
    with pytest.raises(ConstraintError, match="positive standard deviation"):
        mean.near(Q(2, "mm/h"), Q(0, "mm/h"))
    with pytest.raises(ConstraintError, match="finite"):
        _ = mean >= Q(float("nan"), "mm/h")
    with pytest.raises(ConstraintError, match="without a unit"):
        _ = mean >= "8 mm/h"
    with pytest.raises(ConstraintError, match="an array of the shape"):
        _ = mean >= Q([[1.0]], "mm/h")


def test_bounds_in_other_units_are_ordered_as_amounts():
    xearth.AreaMean().between(Q(2, "mm/h"), Q(1, "cm/h"))
    with pytest.raises(ConstraintError):
        xearth.AreaMean().between(Q(2, "cm/h"), Q(1, "mm/h"))


def test_quantities_of_another_registry_are_read():
    foreign = pint.UnitRegistry().Quantity(8.0, "mm/hour")
    assert (xearth.AreaMean() >= foreign) == (xearth.AreaMean() >= Q(8, "mm/h"))


def test_conjunctions_are_flat():
    a, b = xearth.AreaMean() >= Q(1, "mm/h"), xearth.NonNegative()
    c = xearth.AreaMaximum() <= Q(90, "mm/h")
    assert (a & b) & c == a & (b & c) == xearth.All((a, b, c))
    assert str(a & b) == f"{a}; and {b}"
    with pytest.raises(TypeError):
        _ = a & 3
    with pytest.raises(ConstraintError):
        xearth.All(())


def test_an_index_is_at_a_lead_or_in_a_season():
    assert xearth.Nino34(season="DJF") == xearth.Nino34(season=(12, 1, 2))
    for wrong in ({}, {"lead": 3, "season": "DJF"}, {"lead": 0}, {"season": "DJF", "steps": 3}):
        with pytest.raises(ConfigError):
            xearth.Nino34(**wrong)
    with pytest.raises(ConstraintError, match="initials"):
        xearth.Nino34(season="DJX")
    with pytest.raises(ConstraintError, match="follow each other"):
        xearth.Nino34(season=(12, 2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: xearth.AreaMean("nino34"),
        lambda: xearth.AreaMean(per="day"),
        lambda: xearth.AreaMean(leads=(0,)),
        lambda: xearth.AreaMean(leads=(1,), season="DJF"),
        lambda: xearth.AreaQuantile(level=1.0),
        xearth.AreaFraction,
        xearth.AtPoints,
        lambda: xearth.Points(lat=(1.0, 2.0), lon=(1.0,)),
        lambda: xearth.SpectrumSlope((3, 4)),
        lambda: xearth.TransformedMean(least=Q(0, "mm/h")),
        lambda: xearth.Monotone("up"),
        lambda: xearth.Ordered(("tas",)),
        lambda: xearth.BudgetClosed("water"),
        lambda: xearth.Conserved(xearth.AreaMaximum()),
        lambda: xearth.BlockMeans([1.0]),
        lambda: xearth.EnergyConserved(law="r9"),
    ],
)
def test_kinds_validate_themselves(make):
    with pytest.raises(ConstraintError):
        make()


@pytest.mark.parametrize(
    "text", ["{", '{"kind": "Spell"}', "3", '{"kind": "AreaMean"}', '{"a": 1}']
)
def test_json_of_something_else_is_refused(text):
    with pytest.raises(ConstraintError, match="expected"):
        xearth.Constraint.from_json(text)
