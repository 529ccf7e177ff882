"""Learning from preferences: of two answers to a prompt, the one that people liked better (`dpo`)."""
