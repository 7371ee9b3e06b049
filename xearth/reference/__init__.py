"""Reference forecasters that a network must beat, with the interface of a network."""
