"""Cuboid attention: partition, masks, patterns, attention layers and their stacks."""
