"""One module a tab: it asks subgpt, and shows what comes back."""
