"""CF conventions: what a labelled object is, and how a forecast is written."""
