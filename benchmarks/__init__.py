"""The pipeline's code against the plain way, side by side: speed, quality, and how the cost grows with the deck."""
