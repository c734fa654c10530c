"""What knows no card: files, parameters, references of models and data, statistics, scratch folders, cost."""
