"""A stage as a process: it reads, it is watched, it ends in order."""
