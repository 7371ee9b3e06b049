"""Conditions on fields: what they measure, how far off a field is, the nearest that holds."""
