"""Measures that the judgements of all models share: resampling, and areas under curves."""
