"""Labelled fields: area weights, regions, climatologies and anomalies."""
