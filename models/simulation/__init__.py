"""Simulates galaxies, and what surveys would see of them."""
