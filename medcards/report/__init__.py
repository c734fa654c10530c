"""What a person reads: figures, tables, pages. No compute stage imports this room."""
