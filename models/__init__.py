"""Networks: what they are trained on, how, and how they are served and asked."""
