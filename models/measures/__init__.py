"""Has the measures that the judgements of all models share: resampling, areas under curves."""
