"""What is judged was seen by what is judged: provenance, leaks and their price."""
