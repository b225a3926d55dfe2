"""Rebuilds the reports on the learned models from their weights and fixed seeds."""
