"""Judge the critic and its generator, and write the report on them."""
