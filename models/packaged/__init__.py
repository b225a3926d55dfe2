"""The packaged weights: arrays, networks, and the cards beside them."""
