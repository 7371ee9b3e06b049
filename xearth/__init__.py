"""xearth: labelled Earth-system forecasts and an honest verdict on them."""

__version__ = "0.1.0"
