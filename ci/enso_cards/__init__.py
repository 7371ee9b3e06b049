"""The cards of the shipped ENSO models, in parts; ``ci/enso_card.py`` writes them."""
