"""Trains and exports the refined redshift."""
