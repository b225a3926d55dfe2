"""Decides which alerts the alert streams send about a galaxy."""
