"""Scores: the rows of the tables, and the functions that give one score at a time."""
