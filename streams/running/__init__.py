"""Runs stages as processes: reads and commits for them, watches their health, restarts them."""
