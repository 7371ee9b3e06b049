"""Intervals and tests for serially dependent forecasts."""
