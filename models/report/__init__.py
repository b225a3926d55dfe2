"""Reports on the learned models, rebuilt from their weights and fixed seeds."""
