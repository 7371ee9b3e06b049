"""Verification in one pass over any chunks: blocks to states that add, states to scores."""
