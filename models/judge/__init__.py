"""Reports on the learned models: each module rebuilds one page, its figures and its numbers."""
