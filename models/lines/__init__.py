"""Lines that were not measured, recovered from those that were."""
