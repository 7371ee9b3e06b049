"""Constraints: what is measured of a forecast, what it should hold, and how far it is off."""
