"""Labeled fields to tensors and back: grids, statistics, windows, batches."""
