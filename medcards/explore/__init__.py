"""What the deck holds: vocabulary, clusters, topics."""
