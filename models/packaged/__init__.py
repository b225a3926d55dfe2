"""Reads and writes the packaged weights: arrays, networks, and the cards beside them."""
