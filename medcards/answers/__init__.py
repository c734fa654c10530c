"""Who answers, and how an answer is scored."""
