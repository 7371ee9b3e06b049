"""Arithmetic on plain arrays: sorting networks, parts of ensembles, tables of events."""
