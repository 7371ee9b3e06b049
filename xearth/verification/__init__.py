"""Verification: indices, alignment by valid time, and scores with their own units."""
