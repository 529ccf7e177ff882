"""From what a user names to what a training step eats."""
