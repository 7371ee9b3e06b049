"""Labeled fields: area weights, regions, climatologies and anomalies."""
