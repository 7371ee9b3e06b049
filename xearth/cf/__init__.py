"""CF conventions: what a labeled object is, and how a forecast is written."""
