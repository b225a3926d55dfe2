"""What every judgement of a model shares: resampling, and areas under curves."""
