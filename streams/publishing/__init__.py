"""Who sends: files and pipelines."""
