"""The command ``xearth``: argument parsing and file names; the work is done by the library."""
