"""Read and write the packaged weights: arrays, networks, and the cards beside them."""
