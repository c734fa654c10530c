"""The cards before any model: sources, cleaning, words, groups and splits, leakage."""
